"""Forms: the ordinary one, every way of cutting it into chunks, and those that mean harm."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.multipart import MAX_FIELD_BYTES, MAX_HEADER_BYTES, MAX_HEADERS, MAX_PARTS, VideoForm
from tests.gateway.conftest import VIDEO, Gateway

VIDEO_HEAD = b'Content-Disposition: form-data; name="video"; filename="v.mp4"\r\nContent-Type: video/mp4\r\n\r\n'


def part(head: bytes, content: bytes) -> bytes:
    return b"--b\r\n" + head + content + b"\r\n"


def field(name: str, value: str) -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode(), value.encode())


VIDEO_PART = part(VIDEO_HEAD, VIDEO)
END = b"--b--\r\n"


def post(gateway: Gateway, body: bytes, kind: str = "multipart/form-data; boundary=b") -> Any:
    return gateway.http.post("/v1/analyses", content=body, headers={"Content-Type": kind})


@given(video=st.binary(max_size=300) | st.just(b"\r\n--b" * 20 + b"\r\r\n-"), cuts=st.lists(st.integers(0, 600)))
def test_however_it_is_cut_the_video_comes_out_whole(video: bytes, cuts: list[int]) -> None:
    # A boundary that cannot be in the video, one that nearly is.
    end = b"--bb\r\n"
    body = b"--bb\r\n" + VIDEO_HEAD + video + b"\r\n" + end + b'Content-Disposition: form-data; name="sample_fps"\r\n\r\n4\r\n--bb--'
    places = [0, *sorted({min(cut, len(body)) for cut in cuts}), len(body)]
    form = VideoForm(b"bb")
    pieces = [piece for start, stop in pairwise(places) for piece in form.feed(body[start:stop])]
    assert b"".join(pieces) == video
    assert form.finish() == {"sample_fps": "4"}


@pytest.mark.parametrize("parts", [VIDEO_PART + field("sample_fps", "4"), field("sample_fps", "4") + VIDEO_PART], ids=["after", "before"])
def test_options_may_be_fields(gateway: Gateway, parts: bytes) -> None:
    response = post(gateway, parts + END)
    assert response.status_code == 202
    assert response.json()["options"]["sample_fps"] == 4.0
    assert (gateway.data / "analyses" / response.json()["id"] / "video").read_bytes() == VIDEO


def test_the_video_needs_no_file_name(gateway: Gateway) -> None:
    assert post(gateway, field("video", "bytes") + END).json()["size_bytes"] == 5


@pytest.mark.parametrize(
    ("parts", "query", "named"),
    [
        (field("sample_fps", "61"), "", "body.sample_fps"),
        (field("sample_fps", "NaN"), "", "body.sample_fps"),
        (field("sample_fsp", "4"), "", "body.sample_fsp"),
        (field("sample_fps", "4"), "?sample_fps=4", "body.sample_fps"),
        (field("sample_fps", "4") * 2, "", "body.sample_fps"),
        (field("training_consent", "true"), "?training_consent=false", "body.training_consent"),
    ],
)
def test_fields_that_are_not_valid_are_named(lasting_gateway: Gateway, parts: bytes, query: str, named: str) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    response = lasting_gateway.http.post(f"/v1/analyses{query}", content=VIDEO_PART + parts + END, headers=kind)
    assert (response.status_code, response.json()["code"]) == (422, "validation-failed")
    assert response.json()["errors"][0]["field"] == named
    assert lasting_gateway.settles_to_nothing()


HOSTILE = {
    "no boundary": (400, "multipart/form-data", VIDEO_PART + END),
    "a boundary that is too long": (400, f"multipart/form-data; boundary={'b' * 300}", VIDEO_PART + END),
    "another boundary": (400, "multipart/form-data; boundary=other", VIDEO_PART + END),
    "no parts": (400, None, b""),
    "only the end": (422, None, END),
    "no video": (422, None, field("sample_fps", "4") + END),
    "two videos": (422, None, VIDEO_PART * 2 + END),
    "a file of another name": (422, None, part(VIDEO_HEAD.replace(b"video", b"film"), VIDEO) + END),
    "no end": (400, None, VIDEO_PART),
    "no end, cut in the boundary": (400, None, VIDEO_PART + b"--b"),
    "cut in the headers": (400, None, VIDEO_PART + b"--b\r\nContent-Disp"),
    "a preamble": (400, None, b"x" * 1_000_000 + VIDEO_PART + END),
    "a preamble of line ends": (413, None, b"\r\n" * 5_000_000),
    "an epilogue without end": (413, None, VIDEO_PART + END + b"x" * 6_000_000),
    "no headers": (400, None, part(b"\r\n", VIDEO) + END),
    "no name": (400, None, part(b"Content-Disposition: form-data\r\n\r\n", VIDEO) + END),
    "no disposition": (400, None, part(b"Content-Type: video/mp4\r\n\r\n", VIDEO) + END),
    "a header that is too long": (400, None, part(b"X: " + b"x" * (MAX_HEADER_BYTES + 1) + b"\r\n" + VIDEO_HEAD, VIDEO) + END),
    "a header without end": (400, None, b"--b\r\nX: " + b"x" * 3_000_000),
    "a header name without end": (400, None, b"--b\r\n" + b"x" * 3_000_000),
    "too many headers": (400, None, part(b"X: x\r\n" * MAX_HEADERS + VIDEO_HEAD, VIDEO) + END),
    "no such header": (400, None, part(b"\x00\xff: x\r\n" + VIDEO_HEAD, VIDEO) + END),
    "a thousand fields": (400, None, b"".join(field(f"f{n}", "x") for n in range(1000)) + VIDEO_PART + END),
    "one part too many": (400, None, b"".join(field(f"f{n}", "x") for n in range(MAX_PARTS)) + VIDEO_PART + END),
    "a field that is too long": (400, None, VIDEO_PART + field("sample_fps", "4" * (MAX_FIELD_BYTES + 1)) + END),
    "nonsense": (400, None, bytes(range(256)) * 100),
    "a name that is not text": (422, None, VIDEO_PART + part(b'Content-Disposition: form-data; name="\xff\xfe"\r\n\r\n', b"x") + END),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_form_is_the_senders_fault_and_leaves_nothing(lasting_gateway: Gateway, case: str) -> None:
    status, kind, body = HOSTILE[case]
    response = post(lasting_gateway, body, kind or "multipart/form-data; boundary=b")
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert lasting_gateway.settles_to_nothing()
