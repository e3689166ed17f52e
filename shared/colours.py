"""What both roads mean by how bright a colour is."""

from typing import Final

LUMA: Final = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in ITU-R BT.601 luma; they sum to 1."""
