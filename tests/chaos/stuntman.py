"""A whole worker process whose decoding process does what the "video" says: `fault <name>`, or a real video, which is decoded.

Started in a worker's place by `supervise.Service`, with the environment of one. Looks for no faces, and needs no model.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from prometheus_client import start_http_server

from services.preprocess.champion import Champion
from services.preprocess.decode.decoding import decoded
from services.preprocess.decode.limits import Limits
from services.preprocess.decode.process import DECODER, ROOT
from services.preprocess.keeper import Keeper
from services.preprocess.settings import Settings
from services.preprocess.worker import Worker
from shared import logs
from shared.jobs import Options, Timings
from shared.queue import WorkerQueue
from shared.releases import Release
from shared.results import Coverage, ModelInfo, Result
from shared.videos import Videos

PRELUDE: Final = "import os, signal, sys, time\nsys.path.insert(0, sys.argv[1])\n"
LIMITED: Final = "from services.preprocess.decode import sandbox\nsandbox.limit(memory_bytes={memory}, cpu_s={cpu_s})\n"
ON_WITH_IT: Final = "from services.preprocess.decode.decoder import main\nmain()"

FAULTS: Final = {
    "segfault": "os.kill(os.getpid(), signal.SIGSEGV)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "memory": LIMITED.format(memory=400 << 20, cpu_s=60) + "bytearray(1 << 30)",
    "cpu": LIMITED.format(memory=1 << 30, cpu_s=1) + "while True: pass",
    "hang": "time.sleep(600)",
    "noise": "while True: os.write(1, os.urandom(1 << 16))",
    "stderr": "for _ in range(1024): os.write(2, bytes(1 << 20))\n" + ON_WITH_IT,
}
LIMITS: Final = Limits(silence_s=1.5, cpu_s=1)


def decode(video: Path, *, job_id: str, options: Options, release: Release, **_: Any) -> tuple[Result, Timings]:
    """The result of a video in which nobody is to be seen."""
    with decoded(video, sample_fps=options.sample_fps, limits=LIMITS, decoder=decoder_of(video)) as source:
        sampled = sum(1 for _ in source.frames())
        media, warnings = source.media(), source.warnings
    coverage = Coverage(frames_sampled=sampled, frames_with_face=0, frames_used=0, faces_found=0, faces_used=0, dropped={})
    model = ModelInfo(release=release.version, preprocess=release.preprocess)
    return Result(id=job_id, model=model, media=media, coverage=coverage, tracks=(), warnings=warnings), Timings(total=1)


def decoder_of(video: Path) -> tuple[str, ...]:
    """The command to decode with: the real one, unless the file asks for a fault."""
    with video.open("rb") as file:
        word, _, name = file.read(40).partition(b" ")
    if word != b"fault":
        return DECODER
    return (sys.executable, "-I", "-c", PRELUDE + FAULTS[name.decode()], str(ROOT))


def main() -> int:
    settings = Settings()
    logs.configure("worker")
    start_http_server(settings.metrics_port, addr=settings.metrics_host)
    videos = Videos(settings.data)
    videos.prepare()
    queue = WorkerQueue(settings.redis_url, lease_s=settings.lease_s, backoff_s=0.1)
    worker = Worker(
        queue=queue,
        videos=videos,
        champion=Champion(queue=queue, models=settings.models, ready=lambda _: True),
        analyze=decode,
        keeper=Keeper(redis_url=settings.redis_url, lease_s=settings.lease_s),
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    return 0 if worker.run() else 75


if __name__ == "__main__":
    os._exit(main())
