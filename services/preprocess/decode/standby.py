"""A decoder that waits for its video, so that no job waits while a Python starts: 0.2 s, a third of what a short video takes.

It is a process as any other that decodes, for one video, and is caged before it reads a byte of it. Until then it knows nothing: the
video's descriptor and what is to be done come together, over a socket of which it holds the other end.
"""

import logging
import os
import socket
import subprocess
from collections.abc import Sequence

from services.preprocess.decode.process import DECODER, start
from shared.errors import DecoderUnavailable

log = logging.getLogger(__name__)


class Standby:
    """One decoder in waiting at most. For one thread: a decoder dies with the thread that started it."""

    def __init__(self, decoder: Sequence[str] = DECODER) -> None:
        self._decoder = decoder
        self._waiting: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def prepare(self) -> None:
        """Start one, unless one waits. Where none can be started, `take` gives none, and whoever then starts one learns why."""
        if self._waiting is not None:
            return
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            self._missed(error.strerror or str(error))
            return
        with theirs:
            try:
                self._waiting = start([*self._decoder, str(os.getpid())], theirs.fileno()), ours
            except DecoderUnavailable as error:
                ours.close()
                self._missed(error.detail)

    def take(self, request: str, video: int) -> "subprocess.Popen[bytes] | None":
        """The decoder that waits, with the video and what is to be done handed over. None where there is none, or it has died."""
        if self._waiting is None:
            return None
        (process, line), self._waiting = self._waiting, None
        with line:
            try:
                socket.send_fds(line, [request.encode()], [video])
            except OSError:
                end(process)
                return None
        return process

    def close(self) -> None:
        """Let go of the one that waits."""
        if self._waiting is not None:
            (process, line), self._waiting = self._waiting, None
            line.close()
            end(process)

    def _missed(self, reason: str) -> None:
        log.warning("no decoder waits for the next video", extra={"reason": reason})


def end(process: "subprocess.Popen[bytes]") -> None:
    with process:  # closes the pipe and waits
        process.kill()
