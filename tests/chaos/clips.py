"""Small videos of one face, each different from the others."""

from pathlib import Path
from typing import Final

from deploy.clip import make_clip

SIZE: Final = (320, 240)
SLOWEST_FPS: Final = 15


def make_clips(folder: Path, count: int, *, seconds: float = 2.0) -> list[Path]:
    """They differ in their frames per second, and so in what is sampled. Those that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = [folder / f"{seconds:g}s-{SLOWEST_FPS + number}fps.mp4" for number in range(count)]
    for number, clip in enumerate(clips):
        if not clip.exists():
            make_clip(clip, seconds=seconds, fps=SLOWEST_FPS + number, size=SIZE)
    return clips
