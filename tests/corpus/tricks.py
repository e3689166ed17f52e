"""Files that ask the decoder to fetch something: from the network, from the disk, from a device."""

import struct
from pathlib import Path

import av
import numpy as np

from shared.errors import MediaContainerNotAllowed, MediaCorrupt, MediaUnrecognised
from tests.corpus.boxes import FULL_BOX, box, replaced
from tests.corpus.canary import HOST, SECRET, SECRET_TIMES, Canary
from tests.corpus.cases import ANY_VERDICT, Case, Maker, holding, refused, taken
from tests.corpus.clips import FPS, FRAMES, write_clip

PLAYLIST = refused(MediaContainerNotAllowed)
TEXT = refused(MediaUnrecognised)


def tricks(bird: Canary) -> list[Case]:
    return [*playlists(bird), *texts(bird), *references(bird), *names(bird)]


def playlists(bird: Canary) -> list[Case]:
    segment = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n{head}#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n"
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="{bird.url}/key",IV=0x0\n'
    mpd = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{address}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )
    sdp = (
        f"v=0\no=- 0 0 IN IP4 {HOST}\ns=x\nc=IN IP4 {HOST}\nt=0 0\nm=video {bird.free_udp_port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
        f"a=control:rtsp://{HOST}:{bird.port}/x\n"
    )
    written = {
        "http.m3u8": ("HLS with a segment on a server", segment.format(head="", address=f"{bird.url}/part.ts")),
        "file.m3u8": ("HLS with a file of the machine", segment.format(head="", address=f"file://{bird.secret}")),
        "key.m3u8": ("HLS with a key on a server", segment.format(head=key, address=bird.secret)),
        "http.ffconcat": ("a list with a part on a server", f"ffconcat version 1.0\nfile {bird.url}/part.mp4\n"),
        "file.ffconcat": ("a list with a file of the machine", f"ffconcat version 1.0\nfile {bird.secret}\n"),
        "stream.sdp": ("a stream that would come by UDP", sdp),
        "http.mpd": ("DASH with a server", mpd.format(address=f"{bird.url}/part.mp4")),
    }
    return [Case(name=name, what=what, make=holding(content.encode()), expected=PLAYLIST) for name, (what, content) in written.items()] + [
        Case(name="playlist.mp4", what="HLS that is called a video", make=holding(written["http.m3u8"][1].encode()), expected=PLAYLIST),
        Case(
            name="boxed.mp4",
            what="HLS behind the first box of an MP4",
            make=holding(box(b"ftyp", b"isom\0\0\0\0") + written["http.m3u8"][1].encode()),
            expected=refused(MediaCorrupt),
        ),
    ]


def texts(bird: Canary) -> list[Case]:
    ass = f"[Script Info]\nScriptType: v4.00+\n[Events]\nFormat: Text\nDialogue: {bird.secret}\n"
    srt = f"1\n00:00:00,000 --> 00:00:01,000\n<img src='{bird.url}'>\n"
    xspf = f'<?xml version="1.0"?><playlist version="1"><trackList><track><location>{bird.url}</location></track></trackList></playlist>'
    return [
        Case(name="titles.ass", what="subtitles", make=holding(ass.encode()), expected=TEXT),
        Case(name="titles.srt", what="other subtitles", make=holding(srt.encode()), expected=TEXT),
        Case(name="list.xspf", what="a list in XML", make=holding(xspf.encode()), expected=TEXT),
        Case(name="rtsp.txt", what="QuickTime's text reference", make=holding(f"rtsptext{bird.url}".encode()), expected=TEXT),
    ]


def references(bird: Canary) -> list[Case]:
    """Containers of ours whose samples lie elsewhere. What is decoded instead, if anything, is no matter: the secret is."""
    return [
        Case(
            name="url-file.mov",
            what="raw frames, to be read from a file",
            make=_elsewhere(_url(f"file://{bird.secret}")),
            expected=ANY_VERDICT,
        ),
        Case(name="url-http.mov", what="raw frames, to be fetched", make=_elsewhere(_url(f"{bird.url}/samples")), expected=ANY_VERDICT),
        Case(name="alias.mov", what="raw frames, behind a Macintosh alias", make=_elsewhere(_alias(bird.secret)), expected=ANY_VERDICT),
    ]


def names(bird: Canary) -> list[Case]:
    """Good clips, called what a decoder could take for an address. None has a slash: file names cannot."""
    given = [
        "concat:clip.mp4|secret",
        "subfile,,start,0,end,100,,:secret",
        "data:video;base64,AAAA",
        f"udp:{HOST}:{bird.port}",
        f"tcp:{HOST}:{bird.port}",
        "crypto:secret",
        "pipe:0",
        "-",
        "frame-%03d.png",
        "glob-*.jpg",
        "clip.m3u8",
        "clip.sdp",
        "file:secret",
    ]
    return [Case(name=name, what="a good clip with such a name", make=_named, expected=taken()) for name in given]


def _named(path: Path) -> None:
    clip = write_clip(path.with_name("being-named.mp4"))
    clip.rename(path)


def _elsewhere(reference: bytes) -> Maker:
    """QuickTime with raw RGB, so that bytes of a file that is followed are seen as they are."""

    def make(path: Path) -> None:
        with av.open(str(path), "w") as out:
            stream = out.add_stream("rawvideo", rate=FPS)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb24"
            for _ in range(FRAMES):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
            out.mux(stream.encode(None))
        assert len(SECRET) * SECRET_TIMES > FRAMES * 16 * 16 * 3
        dref = box(b"dref", struct.pack(">II", 0, 1) + reference)
        content = replaced(path.read_bytes(), "moov/trak/mdia/minf/dinf/dref", dref)
        path.write_bytes(_without_samples(content))

    return make


def _without_samples(content: bytes) -> bytes:
    """The samples are elsewhere, so what is here is none of theirs: as if black frames had been painted over."""
    start = content.index(b"mdat") + 4
    size = struct.unpack_from(">I", content, start - 8)[0] - 8
    return content[:start] + b"\x7f" * size + content[start + size :]


def _url(address: str) -> bytes:
    """Version and flags of 0: the samples are not in this file."""
    return box(b"url ", bytes(FULL_BOX) + address.encode() + b"\0")


def _alias(path: Path) -> bytes:
    """A record of 150 bytes, then the absolute path (type 2) and the volume, as FFmpeg reads them."""
    name = str(path).encode()
    record = struct.pack(">4sHH", bytes(4), 150, 2).ljust(150, b"\0")
    full = struct.pack(">HH", 2, len(name)) + name + b"\0" * (len(name) % 2)
    return box(b"alis", bytes(FULL_BOX) + record + full + struct.pack(">HH", 0xFFFF, 0))
