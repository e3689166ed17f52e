"""The process that decodes: one video, one pass, no way to anything else. Started by `decoding`, for one job, or before there is one.

Standard input is the video, or a socket over which it comes; standard output is the pipe to the worker. All that will ever be imported
is imported before the cage closes, and the cage is closed before the first byte of the video is looked at.
"""

import importlib
import os
import pkgutil
import queue
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Final

import av

from services.preprocess.decode import sandbox
from services.preprocess.decode.frames import Frame
from services.preprocess.decode.video import Video, open_descriptor
from services.preprocess.decode.wire import Ended, Failed, Opened, Request, Speaker
from shared.errors import DecodeCrashed, DecodeMemoryExceeded, DecoderUnavailable, MienError

VIDEO: Final = 0
ANSWERS: Final = 1
ERRORS: Final = 2

MOST_BYTES: Final = 1 << 16
"""Of a request."""

AHEAD_BYTES: Final = 64 << 20
AHEAD_FRAMES: Final = 32
"""Frames that wait for the worker: whichever of the two is less, and one at least."""
LOOKS_AGAIN_S: Final = 0.5
"""How often, while the worker has no room for more, whether the thread that shows is still there."""


def main() -> None:
    import_all()
    word = sys.argv[-1]
    request = awaited(worker=int(word)) if word.isdigit() else Request.model_validate_json(word)
    sandbox.die_with(request.worker)
    pipe = os.fdopen(os.dup(ANSWERS), "wb")
    os.dup2(ERRORS, ANSWERS)  # whatever prints, it does not garble an answer
    speaker = Speaker(pipe)
    try:
        confined = enter(request)
        with open_descriptor(VIDEO, limits=request.limits) as video:
            answer(video, request, speaker, confined=confined)
    except MienError as error:
        speaker.say(failure(error))
    except MemoryError:
        speaker.say(failure(DecodeMemoryExceeded(f"the limit is {request.limits.memory_bytes >> 20} MiB")))
    except Exception as error:
        speaker.say(failure(DecodeCrashed(type(error).__name__)))
    pipe.close()
    os._exit(0)  # threads of a decoder that is stuck are nobody's to wait for


def awaited(*, worker: int) -> Request:
    """Be ready before there is a video: it comes with what is to be done with it, and takes its place on standard input."""
    sandbox.die_with(worker)
    with socket.socket(fileno=os.dup(VIDEO)) as line:
        word, descriptors, _, _ = socket.recv_fds(line, MOST_BYTES, 1)
    if not descriptors:
        os._exit(0)  # nobody needs it any more
    os.dup2(descriptors[0], VIDEO)
    os.close(descriptors[0])
    return Request.model_validate_json(word)


def import_all() -> None:
    """PyAV imports its parts when a file asks for them, which is too late in a cage."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def enter(request: Request) -> bool:
    """Close the cage; False where there is none and the request can do without. Raises DecoderUnavailable."""
    limits = request.limits
    sandbox.limit(memory_bytes=limits.memory_bytes, cpu_s=limits.cpu_s)
    try:
        sandbox.confine()
    except sandbox.NoSandbox as error:
        if not limits.unconfined:
            raise DecoderUnavailable(f"there is no sandbox on this machine: {error}") from error
        return False
    return True


def answer(video: Video, request: Request, speaker: Speaker, *, confined: bool) -> None:
    frames = video.frames(request.sample_fps, start_ms=request.start_ms, end_ms=request.end_ms, heartbeat=speaker.live)
    first = next(frames)
    height, width, _ = first.rgb_hwc.shape
    expected = video.expected_frames(request.sample_fps, start_ms=request.start_ms, end_ms=request.end_ms)
    speaker.say(Opened(width=width, height=height, expected_frames=expected, confined=confined))
    with showing(speaker, ahead=max(1, min(AHEAD_FRAMES, AHEAD_BYTES // first.rgb_hwc.nbytes))) as show:
        for frame in chain([first], frames):
            show(frame)
    speaker.say(Ended(media=video.media(), warnings=video.warnings))


@contextmanager
def showing(speaker: Speaker, *, ahead: int) -> Iterator[Callable[[Frame], None]]:
    """Show what is handed over, by a thread: decoding goes on while the worker looks, until it is `ahead` frames ahead.

    What ends the thread, such as a MemoryError, comes out of handing over and of the end of the block.
    """
    waiting: queue.Queue[Frame | None] = queue.Queue(ahead)

    def show() -> None:
        for frame in iter(waiting.get, None):
            speaker.show(frame)

    def hand_over(frame: Frame | None) -> None:
        while not shown.done():
            with suppress(queue.Full):
                waiting.put(frame, timeout=LOOKS_AGAIN_S)
                return
        shown.result()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="showing") as thread:
        try:
            shown = thread.submit(show)
        except RuntimeError as error:
            raise MemoryError("no room for a thread's stack") from error
        try:
            yield hand_over
        finally:
            hand_over(None)  # what was decoded before an error is shown before the error
            shown.result()


def failure(error: MienError) -> Failed:
    return Failed(code=error.code(), detail=error.detail.encode("ascii", "replace").decode()[:400])
