"""Good clips whose headers, or whose ends, are not as they were written."""

import io
import struct
import zipfile
from pathlib import Path

from tests.corpus.boxes import FULL_BOX, find, patched, sample_entry, with_matrix
from tests.corpus.cases import Maker
from tests.corpus.clips import Picture, growing, write_clip


def with_display_matrix(picture: Picture, matrix: tuple[int, int, int, int, int, int]) -> Maker:
    return lambda path: path.write_bytes(with_matrix(write_clip(path, picture=picture).read_bytes(), matrix))


def claiming_size(width: int, height: int) -> Maker:
    def make(path: Path) -> None:
        content = write_clip(path).read_bytes()
        path.write_bytes(patched(content, sample_entry(content) + 32, struct.pack(">HH", width, height)))

    return make


def promising(*, hours: int) -> Maker:
    """In the file's header, the track's and the medium's."""

    def make(path: Path) -> None:
        content = write_clip(path).read_bytes()
        for place, units, skipped in (("moov/mvhd", 1000, 12), ("moov/trak/tkhd", 1000, 16), ("moov/trak/mdia/mdhd", 16_000, 12)):
            at = find(content, place).payload + FULL_BOX + skipped
            content = patched(content, at, struct.pack(">I", hours * 3600 * units))
        path.write_bytes(content)

    return make


def zero_timescale(path: Path) -> None:
    content = write_clip(path).read_bytes()
    path.write_bytes(patched(content, find(content, "moov/trak/mdia/mdhd").payload + FULL_BOX + 8, bytes(4)))


def zero_rate(path: Path) -> None:
    """Of the file in `avih`, and of the stream in `strh`: scale and rate."""
    content = write_clip(path, codec="mpeg4").read_bytes()
    content = patched(content, content.index(b"avih") + 8, bytes(4))
    path.write_bytes(patched(content, content.index(b"strh") + 8 + 20, bytes(8)))


def edited_out(frames: int) -> Maker:
    def make(path: Path) -> None:
        content = write_clip(path, container={"use_editlist": "1"}, options={"bf": "0", "g": "5"}).read_bytes()
        units = struct.unpack_from(">I", content, find(content, "moov/trak/mdia/mdhd").payload + FULL_BOX + 8)[0]
        entry = find(content, "moov/trak/edts/elst").payload + FULL_BOX + 4
        whole_ms, _ = struct.unpack_from(">Ii", content, entry)
        edit = struct.pack(">Ii", whole_ms - frames * 40, frames * units // 25)
        path.write_bytes(patched(content, entry, edit))

    return make


def polyglot(path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("hello.txt", "also an archive")
    path.write_bytes(write_clip(path).read_bytes() + archive.getvalue())


def still_growing(frames: int, *, container: dict[str, str] | None = None) -> Maker:
    """The bytes that are there when `frames` have been given to the writer."""

    def make(path: Path) -> None:
        is_matroska = path.suffix == ".mkv"
        stages = list(growing(path, container=container or ({"cluster_time_limit": "40"} if is_matroska else {})))
        path.write_bytes(stages[frames - 1])

    return make
