"""Everything that decides how a generator turns out, beside the pictures."""

from typing import Annotated

from pydantic import Field

from shared.jobs import Contract

Range = tuple[float, float]
"""Least and most."""


class Darkening(Contract):
    """How bright pictures of the dark side are made dark: drawn for each of them within these."""

    exposure: Range = (1 / 40, 1 / 3)
    """Factor on linear light, drawn evenly in its logarithm."""
    gamma: Range = (0.9, 1.5)
    """Exponent on what the screen shows, afterwards."""
    read_noise: Range = (0.0, 0.002)
    """Standard deviation of the sensor's own noise, in fractions of full linear light."""
    shot_noise: Range = (0.0, 0.0006)
    """Variance of the light's noise, in fractions of the light itself."""
    cast: float = 0.15
    """How far the exposure of each colour may be from the picture's, as a fraction."""
    uneven: float = 0.3
    """Share of the pictures that are lit from a side: the exposure grows to that of daylight across them."""


class Settings(Contract):
    """The numbers of one training."""

    width: Annotated[float, Field(gt=0, le=1)] = 0.1875
    """Channel multiplier of the generator; 1.0 is the paper's."""
    discriminator_width: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The same of both discriminators."""
    patch: Annotated[int, Field(ge=48, multiple_of=16)] = 64
    """Side of the pictures that are learnt from, in pixels; 320 in the paper."""
    local_patch: Annotated[int, Field(ge=16)] = 32
    """Side of what the local discriminator sees."""
    local_patches: Annotated[int, Field(ge=1)] = 6
    """Of each picture."""
    mosaic: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the pictures that are put together from four: faces as they are in a frame, not only as they fill it."""
    batch: Annotated[int, Field(ge=2)] = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1.5e-3
    """1e-4 in the paper, for ten times as many steps of wider networks."""
    epochs: Annotated[int, Field(ge=1)] = 20
    """At the full rate for the first half, then down in a line, as in the paper."""
    steps: Annotated[int, Field(ge=1)] = 40
    """Batches of an epoch."""
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.98
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the people that are only measured on: the same ones that training holds out of a crop store at this share."""
    bright_from: float = 0.38
    """Mean luma of a picture that is an example of good light."""
    dark_to: float = 0.3
    """Mean luma of a picture that is dark by nature, and is taken as it is."""
    darkening: Darkening = Darkening()
    seed: int = 1
