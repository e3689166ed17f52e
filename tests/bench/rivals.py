"""Others that do Mien's work: what one writes first, and the package `fer`. A rival gets a video and says how fast it was."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import av
import numpy as np
import torch
from facenet_pytorch import MTCNN
from numpy.typing import NDArray

from services.preprocess.faces.regions import face_tensor
from shared import releases
from training.export import read_release_network

FER: Final = ("fer==25.10.3", "setuptools<81")  # it asks for pkg_resources, which later ones lack
UV: Final = Path(sys.executable).parent / "uv"
PROGRAM: Final = Path(__file__).with_name("fer_program.py")
STARTS_WITHIN_S: Final = 600
"""Of which most is TensorFlow and torch on their way here, the first time."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How one video went."""

    frames: int
    seconds: float

    @property
    def fps(self) -> float:
        return self.frames / self.seconds


class Rival(Protocol):
    """Judges every face in `fps` frames per second of the video; 60 and more are all frames of most videos."""

    def __call__(self, video: Path, *, fps: float) -> Pace: ...


SmallestFace = Callable[[tuple[int, int]], int]
"""The side, in pixels, of the smallest face that is looked for in frames of this width and height."""


class RivalMissing(Exception):
    """It cannot be had on this machine; the message says why."""


def plain_way(weights: Path, *, min_face_px: SmallestFace | None = None) -> Rival:
    """What one writes first: decode, detect and judge frame by frame, eagerly, with everybody's defaults. In this process.

    MTCNN's default smallest face has 20 px, whatever the frame: for those it searches more than Mien, which `min_face_px` can set right.
    """
    release = releases.read(weights / "release.json")
    network = read_release_network(release, weights / releases.WEIGHTS)
    encoder, clip = network.encoder, network.clip
    detector = MTCNN(keep_all=True, device="cpu")

    @torch.inference_mode()
    def analyse(video: Path, *, fps: float) -> Pace:
        began, frames = time.monotonic(), 0
        for rgb in sampled(video, fps=fps):
            if min_face_px is not None:
                detector.min_face_size = min_face_px((rgb.shape[1], rgb.shape[0]))
            boxes, _, landmarks = detector.detect(rgb, landmarks=True)
            for points in [] if boxes is None else np.asarray(landmarks, dtype=np.float32):
                feature, _, _ = encoder(torch.from_numpy(face_tensor(rgb, points, size=release.size))[None])
                torch.softmax(clip(feature[:, None], torch.ones(1, 1))[0], dim=1)
            frames += 1
        return Pace(frames=frames, seconds=time.monotonic() - began)

    return analyse


def sampled(video: Path, *, fps: float) -> Iterator[NDArray[np.uint8]]:
    """The first frame and then `fps` of them per second, uint8 (H, W, 3)."""
    taken = 0
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            if frame.time * fps >= taken:
                taken = int(frame.time * fps) + 1
                yield frame.to_ndarray(format="rgb24")


@contextmanager
def fer(video: Path) -> Iterator[Rival]:
    """The package with MTCNN, in a process and an environment of its own. It has seen `video`'s first frame: its start counts for nothing.

    Raises RivalMissing where it cannot be installed or does not start.
    """
    packages = [word for each in FER for word in ("--with", each)]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = [UV, "run", "--quiet", "--isolated", "--no-project", "--python", python, *packages, "python", PROGRAM, video]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            heard(process)
            yield asking(process)
        finally:
            process.terminate()


def asking(process: "subprocess.Popen[bytes]") -> Rival:
    def analyse(video: Path, *, fps: float) -> Pace:
        process.stdin.write(json.dumps({"video": str(video), "fps": fps}).encode() + b"\n")
        process.stdin.flush()
        answer = heard(process)
        return Pace(frames=answer["frames"], seconds=answer["seconds"])

    return analyse


def heard(process: "subprocess.Popen[bytes]") -> dict[str, float]:
    line = process.stdout.readline()
    if not line:
        raise RivalMissing(f"fer ended with {process.wait()}")
    return json.loads(line)
