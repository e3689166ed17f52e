"""How good a generator is: on held-out people, darkened by known amounts, so that what was there before is known."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from shared.videos import storage_errors, write_durably
from training.enlighten.darkness import Darkness, darkened
from training.enlighten.data import as_input, resized
from training.enlighten.network import Generator, luma_of

EXPOSURES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)
READ_NOISE, SHOT_NOISE = 0.001, 0.0003
PICTURES = 48
SIZE_PX = 96
PICTURES_ON_SHEET = 8


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Pictures and what darkness made of them, always the same ones."""

    lit: Tensor
    """uint8 (N, 3, SIZE_PX, SIZE_PX)"""
    dark: dict[float, Tensor]
    """By exposure, the same shape."""

    @classmethod
    def of(cls, pictures: Tensor) -> Self:
        """Of uint8 (N, 3, H, H), evenly chosen ones."""
        lit = resized(pictures[:: max(1, len(pictures) // PICTURES)][:PICTURES], SIZE_PX)
        draw = torch.Generator().manual_seed(0)
        known = {
            exposure: Darkness.known(len(lit), exposure=exposure, read_noise=READ_NOISE, shot_noise=SHOT_NOISE) for exposure in EXPOSURES
        }
        return cls(lit=lit, dark={exposure: darkened(lit, darkness, draw) for exposure, darkness in known.items()})


def measured(generator: Generator, examples: Examples) -> dict[str, float]:
    """Mean luma in good light, in the dark and brightened, and how near brightened luma is to the truth (PSNR, in decibels)."""
    truth = luma_of(as_input(examples.lit))
    figures = {"luma_lit": float(truth.mean())}
    for exposure, dark in examples.dark.items():
        name = f"1/{round(1 / exposure)}"
        brightened = luma_of(brightened_by(generator, dark))
        figures |= {
            f"luma_dark_{name}": float(luma_of(as_input(dark)).mean()),
            f"luma_brightened_{name}": float(brightened.mean()),
            f"psnr_{name}": float(-10 * (brightened - truth).square().mean(dim=(1, 2, 3)).log10().mean()),
        }
    return figures


@torch.inference_mode()
def brightened_by(generator: Generator, pictures: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) as float32 from -1 to 1, cut off at black and white."""
    was_training = generator.training
    generator.eval()
    brightened: Tensor = generator(as_input(pictures)).clamp(-1, 1)
    generator.train(was_training)
    return brightened


def write_sheet(generator: Generator, examples: Examples, path: Path) -> None:
    """A row of faces in good light; then, for each exposure, a row of them in the dark and a row brightened."""
    rows = [examples.lit[:PICTURES_ON_SHEET]]
    for dark in examples.dark.values():
        some = dark[:PICTURES_ON_SHEET]
        rows += [some, ((brightened_by(generator, some) + 1) * 127.5).round().to(torch.uint8)]
    sheet = make_grid(torch.cat(rows), nrow=len(rows[0]), padding=0)
    content = io.BytesIO()
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(content, format="PNG")
    with storage_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, content.getvalue())
