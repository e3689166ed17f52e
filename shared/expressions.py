"""The names every part agrees on: what a face can express, and which parts of it are looked at."""

from typing import Final

LABELS: Final = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""The expressions, in the order of every score vector (alphabetical)."""

REGIONS: Final = ("face", "eyes", "mouth")
"""The three crops of a face tensor, in channel order: 0-2 face, 3-5 eyes, 6-8 mouth."""
