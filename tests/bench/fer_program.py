"""The other package at work, in an environment of its own: started by `tests.bench.rivals`, imports nothing of ours.

Writes a line when it is ready, then one per request: {"video", "fps"} in, {"frames", "faces", "seconds"} out. Only the work is timed.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

# torch's compiler for GPUs: its LLVM and TensorFlow's cannot live in one process.
sys.modules["triton"] = None  # type: ignore[assignment]

import cv2  # noqa: E402
from fer.fer import FER  # noqa: E402


def main() -> None:
    detector = FER(mtcnn=True)
    detector.detect_emotions(next(frames(sys.argv[1], fps=60)))  # warm
    say({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.monotonic()
        faces = [len(detector.detect_emotions(bgr)) for bgr in frames(asked["video"], fps=asked["fps"])]
        say({"frames": len(faces), "faces": sum(faces), "seconds": time.monotonic() - began})


def frames(video: str, *, fps: float) -> Iterator[Any]:
    """The first frame and then `fps` of them per second of the video, as OpenCV gives them: uint8 (H, W, 3), BGR."""
    capture = cv2.VideoCapture(video)
    shown_fps, taken = capture.get(cv2.CAP_PROP_FPS), 0
    number = -1
    while capture.grab():
        number += 1
        if number * fps >= taken * shown_fps:
            taken = int(number * fps / shown_fps) + 1
            yield capture.retrieve()[1]


def say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
