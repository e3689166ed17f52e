"""A file through the decoder that the worker uses, watched from outside; and whether what came of it is right."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from services.preprocess.decode.decoding import decoded
from services.preprocess.decode.limits import Limits
from shared.errors import MediaError, MienError
from tests.corpus.canary import SECRET
from tests.corpus.cases import Case
from tests.corpus.pictures import number_of

SAMPLE_FPS = 60
LOOKS_EVERY_S = 0.02
CODES = frozenset(kind.code() for kind in MediaError.__subclasses__())
"""Every verdict on a file that the catalogue knows."""
MIB = 1 << 20
MOST_MEMORY = 400 * MIB
"""Resident, of a process that decodes, whatever the file."""
OWN_COMMAND = Path("/proc/self/cmdline").read_bytes()


@dataclass
class Watched:
    """What the processes that decode have been seen to do."""

    most_memory: int = 0
    """Resident bytes at the worst moment of any of them; 0 where all were gone before they could be looked at."""
    sockets: set[str] = field(default_factory=set)
    """Of any family. A decoder has a file and a pipe, and needs none."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What became of a file."""

    error: MienError | None = None
    numbers: tuple[int | None, ...] = ()
    frames: int = 0
    size: tuple[int, int] = (0, 0)
    rotation_degrees: int = 0
    warnings: frozenset[str] = frozenset()
    leaked: bool = False
    """Whether the planted secret is in a frame, in the error or in what is told about the file."""

    @property
    def verdict(self) -> str:
        """The error's code, or `succeeded`."""
        return self.error.code() if self.error else "succeeded"


def judge(path: Path, **limits: int) -> Seen:
    """Decode a file to its end. Raises what no file may bring about."""
    numbers: list[int | None] = []
    leaked = False
    try:
        with decoded(path, sample_fps=SAMPLE_FPS, limits=Limits(**limits)) as video:
            for frame in video.frames():
                numbers.append(number_of(frame.rgb_hwc))
                leaked = leaked or SECRET in frame.rgb_hwc.tobytes()
            media, warnings = video.media(), video.warnings
    except MienError as error:
        return Seen(error=error, numbers=tuple(numbers), leaked=leaked or SECRET.decode() in f"{error} {error.extra}")
    return Seen(
        numbers=tuple(numbers),
        frames=media.frames_decoded,
        size=(media.width, media.height),
        rotation_degrees=media.rotation_degrees,
        warnings=frozenset(warnings),
        leaked=leaked or SECRET.decode() in f"{media} {warnings}",
    )


def complaints(case: Case, seen: Seen) -> list[str]:
    """What is wrong with the verdict; nothing where it is as expected."""
    expected = case.expected
    if seen.leaked:
        return ["the planted secret came out"]
    if seen.error is not None:
        if not isinstance(seen.error, MediaError):
            return [f"{seen.verdict} is no verdict on a file"]
        right = expected.unbound or isinstance(seen.error, expected.errors)
        return [] if right else [f"{seen.verdict} ({seen.error.detail})"]
    if expected.unbound:
        return []
    if not expected.numbers:
        return [f"taken, with {seen.frames} frames"]
    wrong = {
        f"{seen.frames} frames": abs(seen.frames - expected.frames) > 1,
        f"shows {seen.numbers}": not _agree(expected.numbers, seen.numbers),
        f"{seen.size[0]}x{seen.size[1]}": seen.size != expected.size,
        f"turned by {seen.rotation_degrees}": expected.rotation_degrees not in {None, seen.rotation_degrees},
        f"warnings {sorted(seen.warnings)}": seen.warnings != expected.warnings,
    }
    return [what for what, is_so in wrong.items() if is_so]


def _agree(expected: tuple[int, ...], numbers: tuple[int | None, ...]) -> bool:
    """The same frames in the same order, one more or less at the end."""
    common = min(len(expected), len(numbers))
    return abs(len(expected) - len(numbers)) <= 1 and numbers[:common] == expected[:common]


@contextmanager
def watching() -> Iterator[Watched]:
    """Look at the processes that this one has started meanwhile, all the time."""
    watched, ended = Watched(), threading.Event()
    older = {process.pid for process in psutil.Process().children()}
    watcher = threading.Thread(target=_watch, args=(watched, older, ended.is_set))
    watcher.start()
    try:
        yield watched
    finally:
        ended.set()
        watcher.join()


def _watch(watched: Watched, older: set[int], ended: Callable[[], bool]) -> None:
    this, new = psutil.Process(), set[int]()
    while not ended():
        found = {process.pid for process in this.children()} - older
        for pid in found & new:  # at first sight it may still be a copy of this process, about to become another program
            _look(watched, Path("/proc", str(pid)))
        new = found
        time.sleep(LOOKS_EVERY_S)


def _look(watched: Watched, process: Path) -> None:
    try:
        if (process / "cmdline").read_bytes() == OWN_COMMAND:
            return
        status = (process / "status").read_text()
        links = [str(link.readlink()) for link in (process / "fd").iterdir()]
    except OSError:  # it has ended
        return
    high_water = [int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:")]
    watched.most_memory = max(watched.most_memory, *high_water, 0)
    watched.sockets |= {link for link in links if link.startswith("socket:")}
