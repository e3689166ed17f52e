"""EnlightenGAN's generator, as `python -m training.enlighten` left it here, and how a frame is brightened with it."""
