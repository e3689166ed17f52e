"""F4: the process that decodes dies, hangs, swells and raves; the worker is none the worse for it."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.chaos.client import Answer, Client
from tests.chaos.drill import Drill, Verdict
from tests.chaos.stuntman import FAULTS
from tests.chaos.supervise import Service

FULL: Final = 20
"""Of each fault."""
NEXT_WITHIN_S: Final = 2.0
WORKER_AND_KEEPER: Final = 2
EXPECTED: Final[Mapping[str, str]] = {
    "segfault": "decode-crashed",
    "killed": "decode-crashed",
    "memory": "decode-crashed",  # a bare MemoryError: that of the decoder itself is told as decode-memory-exceeded, see test_decoding
    "cpu": "decode-timeout",
    "hang": "decode-timeout",
    "noise": "decode-crashed",
    "stderr": "media-unrecognised",  # it says a lot, and then decodes what is no video
}
MARK: Final = "every fault has its code after two tries at most; the worker stays the same process; the next video takes at most 2 s"


def run(drill: Drill) -> Verdict:
    each = drill.size(FULL)
    (clip,) = drill.clips(1)
    with (
        Service(drill.folder, models=drill.models(), triton=False, worker=("-m", "tests.chaos.stuntman")) as service,
        Client(service.url) as client,
    ):
        before = service.programs.pid("worker")
        done(client, clip, key="first")
        codes: dict[str, Counter[str]] = {name: Counter() for name in FAULTS}
        next_s: list[float] = []
        for number in range(each):
            for name in FAULTS:
                bad = done(client, faulty(drill.folder, name), key=f"{name}-{number}")
                codes[name][bad["failure"]["code"] if bad["failure"] else bad["state"]] += 1
                good = done(client, clip, key=f"after-{name}-{number}")
                next_s.append((good["ended_ms"] - good["created_ms"]) / 1000)
                codes[name]["broke the next one"] += good["state"] != "succeeded"
        after = service.programs.pid("worker")
        left = len(service.processes("worker"))
    untyped = {name: dict(+seen) for name, seen in codes.items() if +seen != Counter({EXPECTED[name]: each})}
    return Verdict(
        id="F4",
        n=each * len(FAULTS),
        passed=not untyped and before == after and max(next_s) <= NEXT_WITHIN_S and left == WORKER_AND_KEEPER,
        value={"unexpected": untyped, "same_worker": before == after, "slowest_next_s": max(next_s), "processes_left": left},
        mark=MARK,
    )


def faulty(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text(f"fault {name}")
    return path


def done(client: Client, video: Path, *, key: str) -> Answer:
    (record,) = client.all_final([client.post(video, key=key, within_s=30)], within_s=60)
    return record
