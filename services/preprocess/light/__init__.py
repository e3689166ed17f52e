"""Dark pictures in, bright ones out."""
