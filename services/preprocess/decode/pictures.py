"""Every picture of a video stream with its time, in the order of presentation: decoding, damage and seeking."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.preprocess.decode.clock import MS, Clock
from services.preprocess.decode.containers import AVI, reason
from services.preprocess.decode.streams import start_of
from shared.errors import DecodeMemoryExceeded, DecodeTimeout, MediaEncrypted

BEFORE_MS: Final = 1000
BEFORE_FRAMES: Final = 16
"""How much earlier than asked to look for a keyframe, the larger of these two: containers find keyframes by when they are decoded, which
may be that much earlier than they are shown."""

ENCRYPTED: Final = "encryption_info"
"""What FFmpeg attaches to packets of MP4's common encryption, whose stream it shows as what it was before."""

Timed = tuple[int, VideoFrame]


class Pictures:
    """One pass over the pictures of an open stream."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        """Raises MediaTimestampsInvalid when the stream has no time base that could tell pictures apart."""
        self._container = container
        self._stream = stream
        self.clock = self._fresh_clock()
        self.damage = ""
        """What was wrong first, in words; empty while nothing was."""

    def timed(self, *, start_ms: int) -> Iterator[Timed]:
        """From somewhere before `start_ms`, or from the beginning where one cannot go there.

        One picture at least comes before `start_ms`, if there is one: who samples must know what came before. Damage before it is
        forgotten. Raises MediaEncrypted, MediaTimestampsInvalid, DecodeTimeout, DecodeMemoryExceeded.
        """
        for pts_ms, picture in self._from_before(start_ms):
            if pts_ms < start_ms:
                self.damage = ""
            yield pts_ms, picture

    def _from_before(self, start_ms: int) -> Iterator[Timed]:
        if self._go_before(start_ms):
            pictures = self._told()
            first = next(pictures, None)
            if first is not None and first[0] < start_ms:
                yield first
                yield from pictures
                return
            self._go_to_the_beginning()
        yield from self._told()

    def _go_before(self, start_ms: int) -> bool:
        """Whether what is decoded next comes from the middle of the file."""
        origin, time_base, rate = start_of(self._container, self._stream), self._stream.time_base, self._stream.guessed_rate
        margin_ms = max(BEFORE_MS, BEFORE_FRAMES * MS / rate if rate else 0)
        if origin is None or not time_base or start_ms <= margin_ms:
            return False
        try:
            self._container.seek(origin + int((start_ms - margin_ms) / (MS * time_base)), stream=self._stream)
        except Exception:  # no index, or a damaged one; PyAV raises OverflowError, too
            self._go_to_the_beginning()
            return False
        return True

    def _go_to_the_beginning(self) -> None:
        self.clock, self.damage = self._fresh_clock(), ""
        with self._noting_damage():
            self._container.seek(min(0, self._container.start_time or 0))

    def _fresh_clock(self) -> Clock:
        stream = self._stream
        rate = stream.guessed_rate or stream.average_rate
        return Clock(time_base=stream.time_base, rate=rate, origin=start_of(self._container, stream))

    def _told(self) -> Iterator[Timed]:
        for picture in self._whole():
            yield self.clock.tell_ms(self._timestamp(picture), picture.duration), picture

    def _timestamp(self, picture: VideoFrame) -> int | None:
        """AVI knows no presentation times: FFmpeg fills in the order of decoding, which goes back and forth where there are B-frames."""
        trusts_pts = self._container.format.name != AVI
        return picture.pts if trusts_pts and picture.pts is not None else picture.dts

    def _whole(self) -> Iterator[VideoFrame]:
        """Those that the decoder vouches for; smeared ones would be judged as faces all the same."""
        for picture in self._decoded():
            if picture.is_corrupt:
                self.damage = self.damage or "a frame is damaged"
            else:
                yield picture

    def _decoded(self) -> Iterator[VideoFrame]:
        """Decode packet by packet; damage costs the frames that it hit, not the rest."""
        packets = self._container.demux(self._stream)
        while True:
            packet = None
            with self._noting_damage():
                packet = next(packets, None)
            if packet is not None and packet.has_sidedata(ENCRYPTED):
                raise MediaEncrypted
            # Without a packet the file has ended, or cannot be read any further: what the decoder still holds is good.
            pictures: list[VideoFrame] = []
            with self._noting_damage():
                pictures = self._stream.codec_context.decode(packet) if packet is None or packet.size else []
            yield from pictures
            if packet is None:
                return

    @contextmanager
    def _noting_damage(self) -> Iterator[None]:
        try:
            yield
        except av.error.ExitError as error:
            raise DecodeTimeout("reading took too long") from error
        except (MemoryError, av.error.BlockingIOError) as error:  # the second is what a thread gets that finds no room for its stack
            raise DecodeMemoryExceeded("a frame takes too much") from error
        except Exception as error:  # damaged files also raise IndexError, AttributeError, UnicodeDecodeError
            self.damage = self.damage or reason(error)
