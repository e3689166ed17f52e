"""The game: the generator brightens, two discriminators look for what gives it away, and what a face shows must stay.

<folder>/
  checkpoint.pt, history.jsonl    as training.checkpoint keeps them
  sheets/epoch-007.png            held-out faces: in good light, darkened by known amounts, and brightened again
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from shared.errors import TrainingDiverged
from training.checkpoint import Checkpoint, Stateful
from training.enlighten.data import Batches, Faces
from training.enlighten.features import TrunkFeatures
from training.enlighten.losses import least_squares, relativistic, self_feature_preserving
from training.enlighten.measure import Examples, measured, write_sheet
from training.enlighten.network import Generator, discriminator
from training.enlighten.settings import Settings

Line = dict[str, float]

ADAM_BETAS = (0.5, 0.999)
GLOBAL_LAYERS, LOCAL_LAYERS = 5, 4


class Players(nn.Module):
    """All networks that learn."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.generator = Generator(settings.width)
        self.whole = discriminator(GLOBAL_LAYERS, settings.discriminator_width)
        self.local = discriminator(LOCAL_LAYERS, settings.discriminator_width)


def fit(
    faces: Faces, *, settings: Settings, features: TrunkFeatures, folder: Path, on_epoch: Callable[[Line], None] = lambda _line: None
) -> tuple[Generator, list[Line]]:
    """Train a generator; the averaged one and a line per epoch are what it comes to.

    A killed fit resumes from `folder` after its last finished epoch and ends with the same numbers. Raises RunMismatch when the
    folder holds another one, TrainingDiverged at the first loss that is not a number, and InsufficientStorage.
    """
    torch.manual_seed(settings.seed)
    players = Players(settings).to(memory_format=torch.channels_last)
    average = AveragedModel(players.generator, multi_avg_fn=get_ema_multi_avg_fn(settings.average_decay), use_buffers=True)
    averaged = cast("Generator", average.module)
    game = Game(players, settings=settings, features=features)
    parts: dict[str, Stateful] = {"players": players, "average": average, "generating": game.generating, "judging": game.judging}
    sources = [source.model_dump() for source in faces.sources]
    checkpoint = Checkpoint(folder, identity={"settings": settings.model_dump(mode="json"), "data": sources})
    batches, examples = Batches(faces=faces, settings=settings), Examples.of(faces.held_out)
    for epoch in range(checkpoint.resume(parts), settings.epochs):
        began = time.monotonic()
        players.train()
        game.at_rate(settings.learning_rate * rate_at(epoch, settings.epochs))
        totals: dict[str, float] = {}
        for step in range(epoch * settings.steps, (epoch + 1) * settings.steps):
            losses = game.step(*batches.drawn(step), step=step)
            average.update_parameters(players.generator)
            totals = {name: totals.get(name, 0.0) + value / settings.steps for name, value in losses.items()}
        line = {"epoch": epoch, **rounded(totals), **rounded(measured(averaged, examples)), "seconds": round(time.monotonic() - began, 1)}
        write_sheet(averaged, examples, folder / "sheets" / f"epoch-{epoch:03d}.png")
        checkpoint.finish_epoch(parts, line)
        on_epoch(line)
    return averaged.eval(), checkpoint.history


class Game:
    """Takes one step after another: the generator first, then those who judge it."""

    def __init__(self, players: Players, *, settings: Settings, features: TrunkFeatures) -> None:
        self._players = players
        self._settings = settings
        self._features = features
        self._judges = nn.ModuleList([players.whole, players.local])
        self.generating = torch.optim.Adam(players.generator.parameters(), lr=settings.learning_rate, betas=ADAM_BETAS)
        self.judging = torch.optim.Adam(self._judges.parameters(), lr=settings.learning_rate, betas=ADAM_BETAS)

    def at_rate(self, learning_rate: float) -> None:
        for optimiser in (self.generating, self.judging):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate

    def step(self, dark: Tensor, bright: Tensor, *, step: int) -> dict[str, float]:
        """One update of everybody from pictures (B, 3, patch, patch); the losses before it, by name. Raises TrainingDiverged."""
        draw = torch.Generator().manual_seed(self._settings.seed * 1_000_033 + step)
        corners = self._corners(len(dark), draw)
        brightened = self._players.generator(dark)
        generated = self._generator_losses(dark, brightened, bright, corners)
        take(self.generating, generated, step=step)
        judged = self._judges_losses(brightened.detach(), bright, corners)
        take(self.judging, judged, step=step)
        return {name: loss.item() for name, loss in (generated | judged).items()}

    def _generator_losses(self, dark: Tensor, brightened: Tensor, bright: Tensor, corners: Tensor) -> dict[str, Tensor]:
        whole, local = self._players.whole, self._players.local
        with frozen(self._judges):
            real = whole(bright).detach()
            patches = self._patches(brightened, corners)
            return {
                "fools_whole": relativistic(whole(brightened), real),
                "fools_local": least_squares(local(patches), real=True),
                "keeps_whole": self_feature_preserving(self._features, dark, brightened),
                "keeps_local": self_feature_preserving(self._features, self._patches(dark, corners), patches),
            }

    def _judges_losses(self, brightened: Tensor, bright: Tensor, corners: Tensor) -> dict[str, Tensor]:
        whole, local = self._players.whole, self._players.local
        fake, real = local(self._patches(brightened, corners)), local(self._patches(bright, corners))
        return {
            "judges_whole": relativistic(whole(bright), whole(brightened)),
            "judges_local": (least_squares(real, real=True) + least_squares(fake, real=False)) / 2,
        }

    def _corners(self, pictures: int, draw: torch.Generator) -> Tensor:
        """Left upper corners of the local patches, int64 (B, patches, 2)."""
        room = self._settings.patch - self._settings.local_patch + 1
        return torch.randint(room, (pictures, self._settings.local_patches, 2), generator=draw)

    def _patches(self, pictures: Tensor, corners: Tensor) -> Tensor:
        """(B * patches, 3, local_patch, local_patch)"""
        side = self._settings.local_patch
        cut = [
            picture[:, top : top + side, left : left + side]
            for picture, own in zip(pictures, corners.tolist(), strict=True)
            for top, left in own
        ]
        return torch.stack(cut)


def take(optimiser: torch.optim.Optimizer, losses: dict[str, Tensor], *, step: int) -> None:
    """One step down the sum of the losses, which all weigh the same. Raises TrainingDiverged."""
    total = torch.stack(list(losses.values())).sum()
    if not math.isfinite(total.item()):
        raise TrainingDiverged(f"loss {total.item()} at step {step}")
    optimiser.zero_grad(set_to_none=True)
    total.backward()
    optimiser.step()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let gradients pass through a network without computing its own."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def rate_at(epoch: int, epochs: int) -> float:
    """The factor on the learning rate: whole for the first half, then down in a line."""
    return min(1.0, 2 * (epochs - epoch) / (epochs + 1))


def rounded(figures: dict[str, float]) -> Line:
    return {name: round(value, 4) for name, value in figures.items()}
