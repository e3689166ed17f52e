"""A whole worker process that decodes videos as any worker does, and looks for no faces in them: no model is needed to judge a bad file.

    python -m tests.corpus.worker FOLDER REDIS_URL

Its data are in FOLDER/data, and the releases among which it finds its champion in FOLDER/models.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from services.preprocess.champion import Champion
from services.preprocess.decode.decoding import decoded
from services.preprocess.keeper import Keeper
from services.preprocess.worker import Worker
from shared import logs
from shared.jobs import Options, Timings
from shared.queue import WorkerQueue
from shared.releases import Release
from shared.results import Coverage, ModelInfo, Result
from shared.videos import Videos

LEASE_S = 5.0
MAX_RUNTIME_S = 120.0


def decode(video: Path, *, job_id: str, options: Options, release: Release, **_: Any) -> tuple[Result, Timings]:
    """The result of a video in which nobody is to be seen."""
    with decoded(video, sample_fps=options.sample_fps) as source:
        sampled = sum(1 for _ in source.frames())
        media, warnings = source.media(), source.warnings
    coverage = Coverage(frames_sampled=sampled, frames_with_face=0, frames_used=0, faces_found=0, faces_used=0, dropped={})
    model = ModelInfo(release=release.version, preprocess=release.preprocess)
    return Result(id=job_id, model=model, media=media, coverage=coverage, tracks=(), warnings=warnings), Timings(total=1)


def build(folder: Path, url: str) -> Worker:
    queue = WorkerQueue(url, lease_s=LEASE_S, max_attempts=3, backoff_s=0.1)
    return Worker(
        queue=queue,
        videos=Videos(folder / "data"),
        champion=Champion(queue=queue, models=folder / "models", ready=lambda _: True),
        analyze=decode,
        keeper=Keeper(redis_url=url, lease_s=LEASE_S, max_runtime_s=MAX_RUNTIME_S),
    )


if __name__ == "__main__":
    logs.configure("worker")
    worker = build(Path(sys.argv[1]), sys.argv[2])
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    os._exit(0 if worker.run() else 75)
