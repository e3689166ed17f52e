"""Teach a generator to see in the dark, and write it as the worker takes it. Killed, the same command goes on.

    python -m training.enlighten faces.parquet more.parquet --licence "..." --eyes training/releases/000002 --out runs/enlighten

What comes out is the folder OUT/enlightener; copied over services/preprocess/light/enlightener it is what serves.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from shared.enlighteners import Enlightener
from shared.errors import MienError
from training.candidate import described_commit, described_hardware
from training.enlighten.data import read_faces
from training.enlighten.export import round_to_half, write_enlightener
from training.enlighten.features import release_features
from training.enlighten.fit import Line, fit
from training.enlighten.measure import Examples, measured
from training.enlighten.settings import Settings

log = logging.getLogger(__name__)

NOTES = (
    "Trained on still faces, most of them grey press photographs, made dark by a model of a sensor; few were dark by nature. What keeps a"
    " face's features sees luma only, so colours are not to be trusted, and the worker takes only luma. It was not measured for any group"
    " of people by age, sex or skin colour: how bright a face is made may depend on how bright its skin is."
)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.enlighten", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faces", type=Path, nargs="+", help="parquet files with columns image and subject")
    parser.add_argument("--licence", required=True, help="terms under which the faces may be used")
    parser.add_argument("--eyes", type=Path, required=True, help="weights folder of the release whose features are to be preserved")
    parser.add_argument("--out", type=Path, required=True, help="folder of this training")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON, where it is to differ from the defaults: '{\"epochs\": 40}'")
    given = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        settings = Settings.model_validate(given.settings)
        enlightener = train(given.faces, licence=given.licence, eyes=given.eyes, out=given.out, settings=settings)
    except ValueError as error:
        parser.error(str(error))
    except MienError as error:
        print(f"{error.code()}: {error.title()} {error.detail}", file=sys.stderr)  # noqa: T201
        return 1
    print(enlightener.model_dump_json(indent=1))  # noqa: T201
    return 0


def train(files: Sequence[Path], *, licence: str, eyes: Path, out: Path, settings: Settings) -> Enlightener:
    """Read, fit, measure as it is shipped, and write. Raises MienError."""
    features, release = release_features(eyes)
    faces = read_faces(files, licence=licence, settings=settings)
    log.info("%d to be darkened, %d bright, %d held out", len(faces.dark), len(faces.bright), len(faces.held_out))
    generator, history = fit(faces, settings=settings, features=features, folder=out, on_epoch=tell)
    round_to_half(generator)
    metrics = measured(generator, Examples.of(faces.held_out))
    words = Enlightener(
        width=settings.width,
        parameters=sum(parameter.numel() for parameter in generator.parameters()),
        steps=settings.epochs * settings.steps,
        minutes=round(sum(line["seconds"] for line in history) / 60, 1),
        hardware=described_hardware(torch.device("cpu"), 1),
        features=f"{release}: stem and two residual stages of the face's trunk",
        data=faces.sources,
        metrics={name: round(value, 4) for name, value in metrics.items()},
        commit=described_commit(),
        notes=NOTES,
        sha256="0" * 64,
    )
    return write_enlightener(generator, words, out / "enlightener")


def tell(line: Line) -> None:
    log.info("%s", json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
