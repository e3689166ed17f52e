"""A whole worker process whose analysis does what the "video" says, for the tests that kill, freeze and starve workers.

    python worker_program.py FOLDER REDIS_URL [JSON settings]

A video is a line of words: `take 2` seconds, reporting as it goes; `sleep 2` seconds, saying nothing; `deaf 2` seconds in
C code, with the interpreter's lock held; `die`, as after an out-of-memory kill; `raise`; `refuse`, as a corrupt file;
`miss`, as with Triton away; `stall` and `toil`, as with a decoder that fell silent, or worked for too long. Each start of a
job is written to FOLDER/starts. The model is ready while FOLDER/ready exists, and takes the setting `answers_after_s` to say so.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.preprocess.champion import Champion
from services.preprocess.keeper import Keeper
from services.preprocess.listener import Listener
from services.preprocess.stopwatch import Stopwatch
from services.preprocess.worker import Worker
from shared import logs
from shared.errors import DecodeTimeout, InferenceUnavailable, MediaCorrupt
from shared.jobs import Options, Progress, Stage, Timings
from shared.queue import WorkerQueue
from shared.releases import Release
from shared.results import Coverage, Media, ModelInfo, Result
from shared.tracing import tracing_to
from shared.videos import Videos

Report = Callable[[Progress], None]


def take(seconds: float, report: Report) -> None:
    for tenth in range(round(seconds * 10)):
        report(Progress(stage=Stage.ANALYSING, frames_done=tenth, percent=round(10 * tenth / seconds)))
        time.sleep(0.1)


def deaf(seconds: float, report: Report) -> None:
    ctypes.PyDLL(None).usleep(round(seconds * 1e6))  # PyDLL, unlike CDLL, keeps the interpreter's lock


def sleep(seconds: float, report: Report) -> None:
    time.sleep(seconds)


def die(seconds: float, report: Report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(seconds: float, report: Report) -> None:
    raise ZeroDivisionError


def refuse(seconds: float, report: Report) -> None:
    raise MediaCorrupt("as the test asked")


def stall(seconds: float, report: Report) -> None:
    raise DecodeTimeout("silent")


def toil(seconds: float, report: Report) -> None:
    raise DecodeTimeout("busy", worked=True)


def miss(seconds: float, report: Report) -> None:
    raise InferenceUnavailable("UNAVAILABLE") from ConnectionError("nobody at 10.1.2.3")


DEEDS = {
    "take": take,
    "deaf": deaf,
    "sleep": sleep,
    "die": die,
    "raise": fail,
    "refuse": refuse,
    "miss": miss,
    "stall": stall,
    "toil": toil,
}


def analysis(starts: Path) -> Callable[..., tuple[Result, Timings]]:
    def analyze(video: Path, *, job_id: str, options: Options, release: Release, listener: Listener) -> tuple[Result, Timings]:
        deed, _, seconds = video.read_text().partition(" ")
        with starts.open("a") as file:
            file.write(f"{job_id} {os.getpid()}\n")
        watch = Stopwatch()
        with watch.told_to(listener.stages), watch("decode"):
            DEEDS[deed](float(seconds or 0), listener.progress)
        result = Result(
            id=job_id,
            model=ModelInfo(release=release.version, preprocess=release.preprocess),
            media=Media(duration_ms=1, width=8, height=8, frames_decoded=1, codec="none", container="none", rotation_degrees=0),
            coverage=Coverage(frames_sampled=0, frames_with_face=0, frames_used=0, faces_found=0, faces_used=0, dropped={}),
            tracks=(),
        )
        return result, Timings(total=1)

    return analyze


def build(
    folder: Path,
    url: str,
    *,
    lease_s: float,
    max_attempts: int = 10,
    max_runtime_s: float = 60,
    answers_after_s: float = 0,
    otlp_endpoint: str = "",
    **settings: Any,
) -> Worker:
    def ready(_: Release) -> bool:
        time.sleep(answers_after_s)
        return (folder / "ready").exists()

    queue = WorkerQueue(url, lease_s=lease_s, max_attempts=max_attempts, backoff_s=0.1)
    return Worker(
        queue=queue,
        videos=Videos(folder / "data"),
        champion=Champion(queue=queue, models=folder / "models", ready=ready),
        analyze=analysis(folder / "starts"),
        keeper=Keeper(redis_url=url, lease_s=lease_s, max_runtime_s=max_runtime_s),
        tracing=tracing_to(otlp_endpoint, service="preprocess"),
        **settings,
    )


if __name__ == "__main__":
    logs.configure("worker")
    worker = build(Path(sys.argv[1]), sys.argv[2], **json.loads(sys.argv[3]))
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    os._exit(0 if worker.run() else 75)
