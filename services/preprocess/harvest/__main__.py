"""Cut a data set into a crop store with serving's own code.

    python -m services.preprocess.harvest parquet faces.parquet --name faces --licence "..." --size 64 --out crops/faces
    python -m services.preprocess.harvest ckplus CK+ --name ckplus --licence "..." --neutral-onset --out crops/ckplus

`python -m services.preprocess.harvest ADAPTER --help` lists what an adapter may be told.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from services.preprocess.harvest.adapters import ADAPTERS, Adapter, Choices, harvest
from shared.errors import MienError


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words of a command line ask for; those of this process by default. Gives the exit status."""
    parser = arguments()
    given = vars(parser.parse_args(words))
    adapter, source, name, licence, out = (given.pop(each) for each in ("adapter", "source", "name", "licence", "out"))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        choices = Choices.model_validate(given)
        store = harvest(adapter, source, name=name, licence=licence, out=out, choices=choices)
    except ValidationError as error:
        parser.error("; ".join(f"--{each['loc'][0]}: {each['msg']}".replace("_", "-") for each in error.errors()))
    except MienError as error:
        print(f"{error.code()}: {error.title()} {error.detail}", file=sys.stderr)  # noqa: T201
        return 1
    left_out = ", ".join(f"{reason} {count}" for reason, count in store.dropped.items()) or "nothing"
    print(f"{store.samples} samples, {store.frames} frames of {store.size} px in {out}; left out: {left_out}")  # noqa: T201
    return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    adapters = parser.add_subparsers(dest="adapter", required=True, metavar="ADAPTER")
    for name, adapter in ADAPTERS.items():
        add_arguments(adapters.add_parser(name, help=adapter.clips.__doc__, description=adapter.clips.__doc__), adapter)
    return parser


def add_arguments(parser: argparse.ArgumentParser, adapter: Adapter) -> None:
    """What every adapter needs, and those of the Choices that this one knows, with the words and the defaults that stand there."""
    parser.add_argument("source", type=Path)
    parser.add_argument("--name", required=True, help="name of the data set, for records and model cards")
    parser.add_argument("--licence", required=True, help="terms under which it may be used")
    parser.add_argument("--out", type=Path, required=True, help="the store: a folder that does not exist yet")
    for name in ("size", *adapter.choices):
        field = Choices.model_fields[name]
        words = field.description if field.default in (None, False) else f"{field.description} (default: {field.default})"
        action = "store_true" if field.annotation is bool else "store"
        parser.add_argument(f"--{name.replace('_', '-')}", action=action, default=argparse.SUPPRESS, help=words)


if __name__ == "__main__":
    sys.exit(main())
