"""Frames in, faces out: found, followed, measured and cut upright."""
