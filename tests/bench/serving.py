"""Frames per second from upload to result, where the time goes, and the same work written plainly."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import av
import httpx
import numpy as np
import torch
from facenet_pytorch import MTCNN

from deploy.stack import Stack, newest_release
from services.preprocess.faces.regions import face_tensor
from shared import releases
from shared.jobs import FINAL_STATES, Job, JobState
from tests.bench.figures import Figure
from training.export import read_release_network

ROUNDS = 3
EVERY_FRAME_FPS = 60
DEFAULT_FPS = 8
STAGES = ("decode", "detect", "infer")


def run(home: Path, video: Path) -> list[Figure]:
    """Every frame of the clip through the whole stack, alternately with the plain way in this process."""
    plain = plain_way(newest_release())
    with Stack(home=home, announce=print) as stack, httpx.Client(base_url=stack.url, timeout=60) as client:
        analyse(client, video, fps=EVERY_FRAME_FPS)
        plain(video)
        jobs: list[Job] = []
        mien_fps: list[float] = []
        plain_fps: list[float] = []
        for _ in range(ROUNDS):
            began = time.monotonic()
            job = analyse(client, video, fps=EVERY_FRAME_FPS)
            mien_fps.append(job.progress.frames_done / (time.monotonic() - began))
            jobs.append(job)
            began = time.monotonic()
            plain_fps.append(plain(video) / (time.monotonic() - began))
        began = time.monotonic()
        as_played = analyse(client, video, fps=DEFAULT_FPS)
        waited_s = time.monotonic() - began
        duration_s = client.get(f"/v1/analyses/{as_played.id}/results").json()["media"]["duration_ms"] / 1000
    ratio = statistics.median(mien_fps) / statistics.median(plain_fps)
    return [
        figure("every frame, upload to result", statistics.median(mien_fps), "frames/s"),
        figure("every frame, facenet-pytorch and eager model per face", statistics.median(plain_fps), "frames/s"),
        figure("ratio to that plain way", ratio, "x", aim="more than the plain way", reached=ratio > 1),
        *(figure(f"share of {stage} in the job's time", share(jobs, stage), "") for stage in STAGES),
        figure(f"clip seconds per second of waiting, {DEFAULT_FPS} samples/s", duration_s / waited_s, "x real time"),
    ]


def figure(name: str, value: float, unit: str, *, aim: str = "", reached: bool | None = None) -> Figure:
    return Figure(bench="serving", name=name, value=value, unit=unit, aim=aim, reached=reached)


def share(jobs: list[Job], stage: str) -> float:
    return sum(getattr(job.timings, stage) for job in jobs) / sum(job.timings.total for job in jobs if job.timings)


def analyse(client: httpx.Client, video: Path, *, fps: float) -> Job:
    """Post the clip and wait for its end."""
    with video.open("rb") as body:
        answer = client.post(
            "/v1/analyses", params={"sample_fps": fps}, content=body, headers={"Content-Type": "application/octet-stream"}
        ).raise_for_status()
    while True:
        job = Job.model_validate({name: value for name, value in answer.json().items() if name in Job.model_fields})
        if job.state in FINAL_STATES:
            break
        time.sleep(0.02)
        answer = client.get(f"/v1/analyses/{job.id}").raise_for_status()
    if job.state is not JobState.SUCCEEDED:
        raise RuntimeError(f"the bench's clip was {job.state}: {job.failure}")
    return job


def plain_way(weights: Path) -> Callable[[Path], int]:
    """What one writes first: decode, detect and judge frame by frame, eagerly, with everybody's defaults."""
    release = releases.read(weights / "release.json")
    network = read_release_network(release, weights / releases.WEIGHTS)
    encoder, clip = network.encoder, network.clip
    detector = MTCNN(keep_all=True, device="cpu")

    @torch.inference_mode()
    def analyse_plainly(video: Path) -> int:
        frames = 0
        with av.open(str(video)) as container:
            for frame in container.decode(video=0):
                rgb = frame.to_ndarray(format="rgb24")
                boxes, _, landmarks = detector.detect(rgb, landmarks=True)
                for points in [] if boxes is None else np.asarray(landmarks, dtype=np.float32):
                    feature, _, _ = encoder(torch.from_numpy(face_tensor(rgb, points, size=release.size))[None])
                    torch.softmax(clip(feature[:, None], torch.ones(1, 1))[0], dim=1)
                frames += 1
        return frames

    return analyse_plainly
