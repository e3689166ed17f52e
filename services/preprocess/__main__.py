"""The worker: `python -m services.preprocess`. Reads the environment, builds the parts, runs until SIGTERM."""

import logging
import os
import signal
import sys
from functools import partial
from typing import Final

import torch
from prometheus_client import start_http_server

from services.preprocess.analyze import analyze
from services.preprocess.champion import Champion
from services.preprocess.decode.limits import Limits
from services.preprocess.decode.standby import Standby
from services.preprocess.faces.search import FaceDetector
from services.preprocess.judge.classifier import Classifier
from services.preprocess.keeper import Keeper
from services.preprocess.light.lowlight import Lowlight
from services.preprocess.settings import Settings
from services.preprocess.worker import Worker
from shared import logs
from shared.queue import WorkerQueue
from shared.redis_passwords import with_password
from shared.signatures import TrustedKeys
from shared.tracing import Tracing, tracing_to
from shared.videos import Videos

HANDED_BACK: Final = 75
"""Exit status of a worker whose job was not done in time; sysexits.h calls it EX_TEMPFAIL."""


def main() -> int:
    settings = Settings()
    logs.configure("preprocess")
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    if settings.metrics_port:
        start_http_server(settings.metrics_port, addr=settings.metrics_host)
    tracing = tracing_to(settings.otlp_endpoint, service="preprocess")
    worker = build(settings, tracing)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    try:
        return 0 if worker.run() else HANDED_BACK
    finally:
        tracing.close()


def build(settings: Settings, tracing: Tracing) -> Worker:
    videos = Videos(settings.data)
    videos.prepare()
    redis_url = with_password(settings.redis_url, settings.redis_password_file)
    queue = WorkerQueue(redis_url, lease_s=settings.lease_s, max_attempts=settings.max_attempts)
    classifier = Classifier(url=settings.triton_grpc)
    trusted = TrustedKeys.load(settings.trusted_keys) if settings.trusted_keys else None
    return Worker(
        queue=queue,
        videos=videos,
        champion=Champion(queue=queue, models=settings.models, ready=classifier.ready, trusted=trusted),
        analyze=partial(
            analyze,
            detector=FaceDetector(device=device(settings.device)),
            lowlight=Lowlight(),
            classifier=classifier,
            limits=Limits(max_duration_ms=round(settings.max_duration_s * 1000)),
            standby=Standby(),
        ),
        keeper=Keeper(
            redis_url=settings.redis_url,
            redis_password_file=settings.redis_password_file,
            lease_s=settings.lease_s,
            max_runtime_s=settings.max_runtime_s,
        ),
        tracing=tracing,
        grace_s=settings.grace_s,
        inference_deadline_s=settings.inference_deadline_s,
    )


def device(asked: str) -> str:
    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # a job that was handed back may still sit in C code, which an orderly exit would wait for
