"""What the service promises, put to the test on real processes that are killed, stopped, starved and cut off.

    make chaos                            every row at its full size: hours on a laptop
    make chaos ARGS="D1 F2 --scale 0.1"   two rows, a tenth of the size

Each row prints one JSON line with what was measured and the mark that it is held to. The command fails if a row does.
"""

import argparse
import shutil
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.chaos.drill import Drill, Row, Verdict
from tests.chaos.rows import (
    cables,
    decoders,
    fairness,
    floods,
    forms,
    kills,
    mutants,
    outage,
    pauses,
    polling,
    restarts,
    schema,
    tails,
    wipes,
)

ROWS: Final[dict[str, Row]] = {
    "D1": kills.run,
    "D2b": tails.run,
    "D3": wipes.run,
    "D5": pauses.run,
    "D8": restarts.run,
    "L4": floods.run,
    "L5": fairness.run,
    "L7": polling.run,
    "F1": cables.run,
    "F2": outage.run,
    "F4": decoders.run,
    "B1": mutants.run,
    "B6": forms.run,
    "B7": schema.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", nargs="*", help=f"any of {', '.join(ROWS)}; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="of the full size (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave logs and data in this folder")
    asked = parser.parse_args()
    if unknown := set(asked.row) - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    with TemporaryDirectory(prefix="mien-chaos-") as passing:
        home = (asked.keep or Path(passing)).resolve()
        return max(failed(name, home, scale=asked.scale, seed=asked.seed) for name in asked.row or ROWS)


def failed(name: str, home: Path, *, scale: float, seed: int) -> int:
    """Run one row and print its line; 1 if it has failed."""
    folder = home / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"{name} ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    verdict = judged(name, Drill(folder=folder, common=home, seed=seed, scale=scale))
    print(verdict.line(seed=seed), flush=True)
    print(f"    {'passed' if verdict.passed else 'FAILED'} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return 0 if verdict.passed else 1


def judged(name: str, drill: Drill) -> Verdict:
    """A row that cannot be run to its end has failed, and the next one is run all the same."""
    try:
        return ROWS[name](drill)
    except Exception as error:
        traceback.print_exc()
        return Verdict(id=name, n=0, passed=False, value={"error": f"{type(error).__name__}: {error}"[:500]}, mark="runs to its end")


if __name__ == "__main__":
    sys.exit(main())
