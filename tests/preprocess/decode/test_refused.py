"""Files that are no video, and videos that are too much."""

import re
import socket
import struct
import threading
import time

import numpy as np
import psutil
import pytest

from services.preprocess.decode.video import open_video
from shared.errors import (
    DecodeTimeout,
    MediaCodecUnsupported,
    MediaContainerNotAllowed,
    MediaDimensionsExceeded,
    MediaDurationExceeded,
    MediaEmpty,
    MediaEncrypted,
    MediaError,
    MediaFramesExceeded,
    MediaTimestampsInvalid,
    MediaUnrecognised,
    StorageError,
)
from tests.preprocess.decode.drawn import box, write_frames

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
NOT_VIDEOS = {
    "text": b"It was a dark and stormy night.\n" * 100,
    "html": b"<!doctype html><html><body>404</body></html>",
    "zip": b"PK\x03\x04" + bytes(500),
    "one byte": b"\0",
    "noise": np.random.default_rng(0).bytes(5000),
}
NOT_TAKEN = {
    "png": PNG,
    "local list": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "gif": b"GIF89a" + bytes(500),
    "heic": b"\0\0\0\x18ftypheic" + bytes(500),
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(500),
    "webp": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(500),
    "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(500),
    "flv": b"FLV\x01\x05" + bytes(500),
    "ogg": b"OggS" + bytes(500),
    "transport stream": (b"G" + bytes(187)) * 10,
    "dash": b"<?xml version='1.0'?>\n<MPD></MPD>",
}


@pytest.mark.parametrize("content", NOT_VIDEOS.values(), ids=NOT_VIDEOS.keys())
def test_other_files_are_not_recognised(clips, content):
    with pytest.raises(MediaUnrecognised):
        open_video(clips.bytes("upload", content))


@pytest.mark.parametrize("content", NOT_TAKEN.values(), ids=NOT_TAKEN.keys())
def test_what_is_recognised_and_not_taken(clips, content):
    with pytest.raises(MediaContainerNotAllowed):
        open_video(clips.bytes("upload", content))


def test_no_bytes(clips):
    with pytest.raises(MediaEmpty):
        open_video(clips.bytes("upload", b""))


def test_no_file(tmp_path):
    with pytest.raises(StorageError):
        open_video(tmp_path / "missing")


@pytest.mark.parametrize("kind", ["m3u8", "ffconcat"])
def test_playlists_reach_no_server(clips, kind):
    with socket.create_server(("127.0.0.1", 0)) as canary:
        address = f"http://127.0.0.1:{canary.getsockname()[1]}/part.mp4"
        content = {
            "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
            "ffconcat": f"ffconcat version 1.0\nfile {address}\n",
        }[kind]
        with pytest.raises(MediaContainerNotAllowed):
            open_video(clips.bytes(f"upload.{kind}", content.encode()))
        canary.settimeout(0.2)
        with pytest.raises(TimeoutError):
            canary.accept()


def test_a_session_description_binds_no_socket(clips):
    """FFmpeg would bind the port and wait for packets: watch this process's sockets for as long as it tries."""
    sdp = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 45004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    errors: list[BaseException] = []

    def attempt():
        try:
            open_video(clips.bytes("upload.sdp", sdp), io_timeout_s=2)
        except MediaError as error:
            errors.append(error)

    attempts = threading.Thread(target=attempt)
    attempts.start()
    bound = set()
    while attempts.is_alive():
        bound |= {connection.laddr.port for connection in psutil.Process().net_connections("udp")}
        time.sleep(0.002)
    assert isinstance(errors[0], MediaContainerNotAllowed)
    assert 45004 not in bound


def sample_entry(content):
    """Where the description of the H.264 stream starts in an MP4."""
    return [match.start() for match in re.finditer(b"avc1", content)][-1]


def test_no_decoder(clips):
    content = bytearray(clips.write().read_bytes())
    place = sample_entry(content)
    content[place : place + 4] = b"zzzz"
    with pytest.raises(MediaCodecUnsupported):
        open_video(clips.bytes("upload", bytes(content)))


def test_a_codec_that_is_not_allowed(clips):
    with pytest.raises(MediaCodecUnsupported, match="ffvhuff"):
        open_video(clips.write("clip.avi", codec="ffvhuff"))


def test_too_many_pixels(clips):
    path = clips.write(frames=1)
    assert len(list(open_video(path, max_pixels=128 * 32).frames(8))) == 1
    with pytest.raises(MediaDimensionsExceeded, match="128 x 32"):
        open_video(path, max_pixels=128 * 32 - 1)


def test_huge_frames_that_claim_to_be_small_are_never_decoded(clips):
    black = np.zeros((4096, 4096, 3), np.uint8)
    content = bytearray(clips.write(picture=lambda _: black, frames=1, preset="ultrafast").read_bytes())
    place = sample_entry(content)
    content[place + 28 : place + 32] = struct.pack(">HH", 64, 64)
    with pytest.raises(MediaDimensionsExceeded, match="4096 x 4096"):
        open_video(clips.bytes("bomb.mp4", bytes(content)))


def test_too_long_by_what_was_decoded_not_by_the_header(clips):
    path = clips.write(frames=50, fps=25)
    with open_video(path, max_duration_ms=1999) as video, pytest.raises(MediaDurationExceeded):
        list(video.frames(8))
    with open_video(path, max_duration_ms=2000) as video:
        assert len(list(video.frames(8))) == 16


def test_a_ribbon(tmp_path):
    path = write_frames(tmp_path / "ribbon.mkv", [box(0, 9, width=8208, height=16)], preset="ultrafast")
    with pytest.raises(MediaDimensionsExceeded, match="8208 x 16"):
        open_video(path)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_too_many_frames(clips, name):
    path = clips.write(name, pts_ms=range(150), codec="mpeg4")
    with open_video(path, max_duration_ms=2000) as video, pytest.raises(MediaFramesExceeded, match="120"):
        list(video.frames(8))
    with open_video(path, max_duration_ms=4000) as video:
        assert len(list(video.frames(10))) == 2


@pytest.mark.parametrize("movflags", ["", "frag_keyframe+empty_moov"])
def test_encrypted(tmp_path, movflags):
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "01" * 16, "encryption_kid": "02" * 16}
    path = write_frames(tmp_path / "secret.mp4", [box(0, 9)] * 5, mux=key | ({"movflags": movflags} if movflags else {}))
    with open_video(path) as video, pytest.raises(MediaEncrypted):
        list(video.frames(8))


def test_a_clock_that_stands_still(clips):
    content = bytearray(clips.write().read_bytes())
    time_scale = content.find(b"mdhd") + 16
    content[time_scale : time_scale + 4] = bytes(4)
    with pytest.raises(MediaTimestampsInvalid):
        open_video(clips.bytes("upload", bytes(content)))


def test_reading_that_takes_too_long(clips):
    with pytest.raises(DecodeTimeout):
        open_video(clips.write(), io_timeout_s=1e-9)
