"""Decoding, as the worker uses it: in a process of its own per video, which can do nothing else and is believed nothing.

The worker opens the file and hands over the descriptor; the process is started afresh with an empty environment, is caged before it reads
a byte (see `sandbox`), and sends frames back through a pipe (see `wire`). It decodes a bounded number of frames ahead, so the worker
never waits for what could have been done meanwhile, and memory is flat. It is killed when the `with` is left, however that happens,
and dies with the worker's thread.
"""

import fcntl
import logging
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, cast

from services.preprocess.asking import Ask, nobody
from services.preprocess.decode.frames import Frame
from services.preprocess.decode.limits import Limits, most_frames
from services.preprocess.decode.process import DECODER, start
from services.preprocess.decode.standby import Standby
from services.preprocess.decode.wire import Ended, Failed, Garbled, Hearer, Opened, Request, Silent
from shared.errors import DecodeCrashed, DecoderUnavailable, DecodeTimeout, MediaError, MienError, StorageError
from shared.results import Media

ENDS_WITHIN_S: Final = 2.0
"""How long a process whose pipe has ended may take to say how it ended."""
LIMITS: Final = Limits()

PIPE_BYTES: Final = 1 << 20
"""What Linux allows everybody."""

log = logging.getLogger(__name__)


@contextmanager
def decoded(
    path: Path,
    *,
    sample_fps: float,
    start_ms: int = 0,
    end_ms: int | None = None,
    limits: Limits = LIMITS,
    ask: Ask = nobody,
    decoder: Sequence[str] = DECODER,
    standby: Standby | None = None,
) -> "Iterator[DecodedVideo]":
    """Open a video for one pass over the frames of `start_ms` <= time < `end_ms`. The first one has been decoded when this returns.

    `ask` is called about every second of waiting for the process, be it for the first frame; what it raises ends the wait.
    `decoder` is the command that decodes; the request becomes its last argument. The process that `standby` has started before, if there
    is one, takes its place, and the next one is started as this video ends.

    Raises any MediaError (see `video.open_video` and `video.Video.frames`), which `frames` may do too, and
        DecodeTimeout         it fell silent, or (`worked`) took more CPU time than the limit
        DecodeMemoryExceeded  it needs more memory than the limit
        DecodeCrashed         the process died, or what it says makes no sense
        DecoderUnavailable    no process can be started, or nothing on this machine can confine it
        StorageError          the file cannot be read
    """
    request = Request(worker=os.getpid(), sample_fps=sample_fps, start_ms=start_ms, end_ms=end_ms, limits=limits)
    with _opened(path) as video, _begun(decoder, request, video, standby) as process:
        yield DecodedVideo(_Conversation(process, limits, ask), request)


class DecodedVideo:
    """A video that is being decoded: one pass of `frames`, then `media` and `warnings`."""

    def __init__(self, conversation: "_Conversation", request: Request) -> None:
        self._conversation = conversation
        self._request = request
        opened = conversation.hear()
        if not isinstance(opened, Opened):
            raise out_of_turn()
        if opened.width * opened.height > request.limits.max_pixels:
            raise DecodeCrashed("the decoder's frames are larger than the limit")
        if not opened.confined:
            log.warning("a video is decoded without a sandbox")
        self.size = (opened.width, opened.height)
        """Width and height of every frame, in pixels."""
        self.expected_frames = opened.expected_frames
        """How many frames will come, if the header is right; None where it does not say."""
        self._started = False
        self._ended: Ended | None = None

    def frames(self) -> Iterator[Frame]:
        """The sampled frames, in order, as `video.Video.frames` picks them. Raises what `decoded` does."""
        if self._started:
            raise RuntimeError("the frames of a video can be read once; decode it again")
        self._started = True
        frames = after_ms = 0
        while isinstance(answer := self._conversation.hear(), Frame):
            frames += 1
            self._check(answer.pts_ms, after_ms=after_ms, frames=frames)
            after_ms = answer.pts_ms + 1
            yield answer
        if not isinstance(answer, Ended) or (answer.media.width, answer.media.height) != self.size:
            raise out_of_turn()
        self._ended = answer

    def media(self) -> Media:
        """What was decoded; call it after `frames`."""
        return self._end().media

    @property
    def warnings(self) -> tuple[str, ...]:
        """Codes of what is imperfect about what was decoded; ask after `frames`."""
        return self._end().warnings

    def _end(self) -> Ended:
        if self._ended is None:
            raise RuntimeError("the frames have not ended yet")
        return self._ended

    def _check(self, pts_ms: int, *, after_ms: int, frames: int) -> None:
        request = self._request
        starts, ends = max(after_ms, request.start_ms), request.start_ms + request.limits.max_duration_ms
        if not starts <= pts_ms < min(ends, request.end_ms or ends) or frames > most_frames(request.limits.max_duration_ms):
            raise DecodeCrashed("the decoder's frames are out of order, or too many")


class _Conversation:
    """Answers of one process, or the error that there is none."""

    def __init__(self, process: "subprocess.Popen[bytes]", limits: Limits, ask: Ask) -> None:
        self._process = process
        self._limits = limits
        pipe = cast("BinaryIO", process.stdout).fileno()
        self._hearer = Hearer(pipe, silence_s=limits.silence_s, wait_s=limits.wait_s, ask=ask)

    def hear(self) -> Opened | Frame | Ended:
        try:
            answer = self._hearer.hear()
        except Silent:
            raise DecodeTimeout("the decoder has been silent for too long") from None
        except Garbled as error:
            raise DecodeCrashed("what the decoder says makes no sense") from error
        except EOFError:
            raise self._ending() from None
        if isinstance(answer, Failed):
            raise reported(answer)
        return answer

    def _ending(self) -> MediaError:
        """Why there is nobody left to speak."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDS_WITHIN_S)
        status = self._process.returncode
        if status == -signal.SIGXCPU:
            return DecodeTimeout(f"it took more than {self._limits.cpu_s} s of CPU time", worked=True)
        if status is not None and status < 0:
            return DecodeCrashed(signal_name(-status))
        return DecodeCrashed("the decoder ended without a word")


def reported(failed: Failed) -> MienError:
    """The error that the decoding process met. One that is no matter of decoding is not taken from it."""
    kinds: list[type[MienError]] = [StorageError, DecoderUnavailable, *MediaError.__subclasses__()]
    kind = next((kind for kind in kinds if kind.code() == failed.code), None)
    return kind(failed.detail) if kind else DecodeCrashed("the decoder failed in a way that it cannot")


def out_of_turn() -> DecodeCrashed:
    return DecodeCrashed("what the decoder says comes out of turn")


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(error.strerror or str(error)) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _begun(command: Sequence[str], request: Request, video: int, standby: Standby | None) -> "Iterator[subprocess.Popen[bytes]]":
    word = request.model_dump_json()
    process = (standby.take(word, video) if standby else None) or start([*command, word], video)
    with process:  # closes the pipe and waits
        try:
            with suppress(OSError):  # where pipes are scarce, a small one does
                fcntl.fcntl(cast("BinaryIO", process.stdout), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            yield process
        finally:
            process.kill()
            if standby:
                standby.prepare()
