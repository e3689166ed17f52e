"""What every file of the corpus is expected to end in, and what it does end in, as a table in Markdown.

python -m tests.corpus            corner files, bombs and tricks
python -m tests.corpus --keep DIR  and leave the files there, to be looked at
"""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.corpus.bombs import bombs
from tests.corpus.canary import canary
from tests.corpus.cases import Case, Expected
from tests.corpus.corners import corners
from tests.corpus.judging import MIB, MOST_MEMORY, Seen, Watched, complaints, judge, watching
from tests.corpus.strangers import strangers
from tests.corpus.tricks import tricks


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.corpus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the files in this folder")
    asked = parser.parse_args()
    os.environ["SVT_LOG"] = "0"  # the AV1 encoder introduces itself otherwise
    with TemporaryDirectory(prefix="mien-corpus-") as passing:
        folder = asked.keep or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        return tables(folder)


def tables(folder: Path) -> int:
    """Print them all; the number of files with a wrong verdict."""
    with canary(folder) as bird:
        wrong = sum(
            table(title, cases, folder)
            for title, cases in {
                "No video": strangers(),
                "Odd videos": corners(),
                "Bombs": bombs(),
                "Tricks": tricks(bird),
            }.items()
        )
        say(f"\nWrong: {wrong}. The canary was reached {len(bird.hits)} times.")
        return wrong + len(bird.hits)


def table(title: str, cases: Iterable[Case], folder: Path) -> int:
    say(f"\n### {title}\n\n| file | what it is | expected | seen | MiB |  |\n| --- | --- | --- | --- | ---: | --- |")
    wrong = 0
    for case in cases:
        path = case.write(folder)
        with watching() as watched:
            seen = judge(path, **case.limits)
        reasons = complaints(case, seen) + ["too much memory"] * (watched.most_memory > MOST_MEMORY)
        wrong += bool(reasons)
        say(row(case, seen, watched, reasons))
    return wrong


def row(case: Case, seen: Seen, watched: Watched, reasons: list[str]) -> str:
    name = case.name.replace("|", "\\|")
    found = outcome(seen.frames, seen.size, seen.warnings) if seen.error is None else f"`{seen.verdict}`"
    return f"| `{name}` | {case.what} | {hoped(case.expected)} | {found} | {watched.most_memory // MIB} | {'; '.join(reasons) or 'ok'} |"


def hoped(expected: Expected) -> str:
    errors = [f"`{error.code()}`" for error in expected.errors]
    good = [outcome(expected.frames, expected.size, expected.warnings)] if expected.numbers else []
    return "any verdict" if expected.unbound else " or ".join([*good, *errors])


def outcome(frames: int, size: tuple[int, int], warnings: frozenset[str]) -> str:
    told = "".join(f", `{warning}`" for warning in sorted(warnings))
    return f"{frames} frames of {size[0]}x{size[1]}{told}"


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is its purpose


if __name__ == "__main__":
    sys.exit(min(main(), 1))
