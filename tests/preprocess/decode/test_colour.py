"""Colours as they come out, against what the standards say and against clips whose patches are known."""

from fractions import Fraction

import av
import numpy as np
import pytest

from services.preprocess.decode.colour import Curve, hlg_scene, pq_code, pq_nits, pressed_nits, sdr_rgb
from services.preprocess.decode.video import open_video

# --- curves --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "nits"), [(0.0, 0.0), (0.38, 26.0), (0.58, 203.0), (0.7518, 1000.0), (1.0, 10_000.0)])
def test_pq_is_that_of_bt_2408s_table(code, nits):
    assert pq_nits(np.array(code)) == pytest.approx(nits, rel=0.02)
    assert pq_code(np.array(nits)) == pytest.approx(code, abs=0.002)


@pytest.mark.parametrize(("code", "nits"), [(0.0, 0.0), (0.38, 26.0), (0.75, 203.0), (1.0, 1000.0)])
def test_hlg_is_that_of_bt_2408s_table(code, nits):
    """On a display of 1000 cd/m2, for greys."""
    assert 1000 * hlg_scene(np.array(code)) ** 1.2 == pytest.approx(nits, rel=0.02)


def test_what_is_bright_is_pressed_and_what_is_not_stays():
    nits = np.geomspace(0.01, 1000, 500)
    pressed = pressed_nits(nits)
    assert np.all(np.diff(pressed) > 0)
    assert pressed[nits < 85] == pytest.approx(nits[nits < 85], rel=1e-6)
    assert pressed[-1] == pytest.approx(203, rel=1e-3)


def of_code(code: float) -> np.ndarray:
    return np.full((40, 2, 3), round(code * 65535), np.uint16)


@pytest.mark.parametrize("curve", Curve)
def test_a_grey_card_is_as_grey_as_in_sdr(curve):
    """BT.2408's 26 cd/m2, of 203, by BT.1886."""
    grey = sdr_rgb(of_code(0.38), curve)
    assert grey.shape == (40, 2, 3)
    assert grey.min() >= 107
    assert grey.max() <= 110
    assert pytest.approx(108.4, abs=0.1) == 255 * (26 / 203) ** (1 / 2.4)


def test_tones_keep_their_order_and_greys_stay_grey():
    ramp = np.repeat(np.linspace(0, 65535, 512).astype(np.uint16)[:, None, None], 3, axis=2)
    for curve in Curve:
        shown = sdr_rgb(ramp, curve).astype(int)
        assert np.all(np.diff(shown[:, 0, 0]) >= 0)
        assert (shown[0, 0, 0], shown[-1, 0, 0]) == (0, 255)
        assert np.ptp(shown, axis=2).max() <= 1


def test_a_colour_of_bt_709_comes_back():
    """Skin, brought into PQ by BT.2087 and BT.2100 at 203 cd/m2, is shown as it was."""
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    skin = np.array([160, 120, 105])
    codes = pq_code(203 * to_2020 @ (skin / 255) ** 2.4)
    shown = sdr_rgb(np.round(codes * 65535).astype(np.uint16)[None, None, :], Curve.PQ)
    assert np.abs(shown.astype(int) - skin).max() <= 2


# --- clips ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def patch(tmp_path):
    """The colour of the first frame of a clip whose every pixel is `yuv`, and the clip's warnings."""

    def patch(yuv, *, codec="libx264", fmt="yuv420p", size=(64, 64), **options):
        path = tmp_path / "patch.mkv"
        picture = av.VideoFrame(*size, fmt)
        kind = np.uint16 if "10" in fmt else np.uint8
        for plane, value in zip(picture.planes, yuv, strict=True):
            plane.update(np.full(plane.buffer_size // kind().nbytes, value, kind))
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options={name.replace("_", "-"): value for name, value in options.items()})
            stream.width, stream.height, stream.pix_fmt = *size, fmt
            picture.pts, picture.time_base = 0, Fraction(1, 25)
            container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        with open_video(path) as video:
            (frame,) = video.frames(60)
            assert np.ptp(frame.rgb_hwc, axis=(0, 1)).max() <= 2
            return frame.rgb_hwc[size[1] // 2, size[0] // 2].astype(int), video.warnings

    return patch


MATRICES = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}


def by_the_standard(yuv, matrix, *, full, bits=8):
    red, blue = MATRICES[matrix]
    y, cb, cr = (value / (1 << bits - 8) for value in yuv)
    y, cb, cr = (y / 255, (cb - 128) / 255, (cr - 128) / 255) if full else ((y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224)
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    return np.array([r, (y - red * r - blue * b) / (1 - red - blue), b]) * 255


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_matrix_and_range_are_those_of_the_clip(patch, matrix, full):
    yuv = (120, 100, 170)
    rgb, warnings = patch(yuv, x264_params=f"colormatrix={matrix}:fullrange={'on' if full else 'off'}")
    assert rgb == pytest.approx(by_the_standard(yuv, matrix, full=full), abs=3)
    assert warnings == ()


@pytest.mark.parametrize(("size", "matrix"), [((640, 480), "smpte170m"), ((1280, 720), "bt709")])
def test_where_nothing_is_said_size_tells_the_matrix(patch, size, matrix):
    yuv = (120, 100, 170)
    assert patch(yuv, size=size, preset="ultrafast")[0] == pytest.approx(by_the_standard(yuv, matrix, full=False), abs=3)


def test_ten_bits(patch):
    yuv = (480, 400, 680)
    rgb, _ = patch(yuv, codec="libx265", fmt="yuv420p10le", x265_params="log-level=none:colormatrix=bt709:range=limited")
    assert rgb == pytest.approx(by_the_standard(yuv, "bt709", full=False, bits=10), abs=3)


@pytest.mark.parametrize(("fmt", "codec"), [("yuv444p", "libx264"), ("yuva420p", "libvpx-vp9"), ("yuv422p10le", "prores_ks")])
def test_other_samplings_and_alpha(patch, fmt, codec):
    yuv = (480, 400, 680) if "10" in fmt else (120, 100, 170)
    opaque = (255,) if "yuva" in fmt else ()
    rgb, _ = patch((*yuv, *opaque), codec=codec, fmt=fmt)
    assert rgb == pytest.approx(by_the_standard((120, 100, 170), "smpte170m", full=False), abs=4)


@pytest.mark.parametrize(
    ("transfer", "code", "grey"), [(16, 0.38, 108), (16, 0.58, 230), (16, 0.0, 0), (18, 0.38, 109), (18, 0.75, 230), (18, 1.0, 255)]
)
def test_hdr_clips_come_out_as_sdr(patch, transfer, code, grey):
    colours = f"log-level=none:colorprim=9:transfer={transfer}:colormatrix=9:range=limited"
    rgb, warnings = patch((round(64 + 876 * code), 512, 512), codec="libx265", fmt="yuv420p10le", x265_params=colours)
    assert np.abs(rgb - grey).max() <= 2
    assert warnings == ("hdr-tonemapped",)
