"""B1: damaged clips, one after another through the whole API; each gets its verdict, and the workers are none the worse for it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from shared.errors import DecodeCrashed, DecodeTimeout
from tests.chaos.client import Answer, Client
from tests.chaos.drill import Drill, Verdict
from tests.chaos.supervise import Service
from tests.corpus.judging import CODES
from tests.corpus.mutations import mutant

FULL: Final = 500
WORKERS: Final = ("worker", "worker-2")
WITHIN_S: Final = 1800.0
SLOWEST_S: Final = 10.0
MOST_MIB: Final = 512
FORESEEN: Final = CODES - {DecodeCrashed.code(), DecodeTimeout.code()} | {"succeeded"}
"""The two are verdicts as well, but on a decoder that damage has killed or silenced: the damage won."""
MARK: Final = (
    "every job final at its only attempt, within 10 s of its start; every failure is a verdict on a file that the catalogue knows, "
    "none of a decoder that died or fell silent; the workers stay the same processes, of 512 MiB at most"
)


def run(drill: Drill) -> Verdict:
    files = damaged(drill.folder / "mutants", drill.size(FULL))
    with Service(drill.folder, models=drill.models(), workers=len(WORKERS)) as service, Client(service.url) as client:
        before = [service.programs.pid(name) for name in WORKERS]
        idle_mib = [memory_mib(pid, field="VmRSS") for pid in before]
        for pid in before:
            forget_peak(pid)
        ids = client.post_all(files, keys=[file.name for file in files], within_s=WITHIN_S)
        drill.say(f"posted {len(ids)}")
        records = client.all_final(ids, within_s=WITHIN_S)
        after = [service.programs.pid(name) for name in WORKERS]
        most_mib = [memory_mib(pid, field="VmHWM") for pid in after]
    ends = Counter(end(record) for record in records)
    unforeseen = {code: count for code, count in ends.items() if code not in FORESEEN}
    slowest_s = max(seconds(record) for record in records)
    most_attempts = max(record["attempts"] for record in records)
    return Verdict(
        id="B1",
        n=len(files),
        passed=not unforeseen and most_attempts == 1 and slowest_s <= SLOWEST_S and before == after and max(most_mib) <= MOST_MIB,
        value={
            "ends": dict(ends.most_common()),
            "unforeseen": {code: named(files, records, code) for code in unforeseen},
            "same_workers": before == after,
            "slowest_s": slowest_s,
            "most_attempts": most_attempts,
            "workers_idle_mib": idle_mib,
            "workers_most_mib": most_mib,
        },
        mark=MARK,
    )


def damaged(folder: Path, count: int) -> list[Path]:
    """The first mutants, which are the same in every run."""
    folder.mkdir()
    files = []
    for number in range(count):
        each = mutant(number)
        files.append(folder / each.name)
        files[-1].write_bytes(each.content)
    return files


def end(record: Answer) -> str:
    """The code of the failure, or the state."""
    return str(record["failure"]["code"] if record["failure"] else record["state"])


def seconds(record: Answer) -> float:
    """From the start of the last attempt to the end: all of its work, since the row allows no other attempt."""
    return (int(record["ended_ms"]) - int(record["started_ms"])) / 1000


def named(files: Sequence[Path], records: Sequence[Answer], code: str) -> list[str]:
    """Some of the files that ended so."""
    return [file.name for file, record in zip(files, records, strict=True) if end(record) == code][:5]


def forget_peak(pid: int) -> None:
    """From here on, the most that a process has ever had counts: not what it took to start."""
    Path("/proc", str(pid), "clear_refs").write_text("5")


def memory_mib(pid: int, *, field: str) -> int:
    """`VmRSS`: now. `VmHWM`: the most since the peak was forgotten."""
    (line,) = (line for line in Path("/proc", str(pid), "status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) >> 10
