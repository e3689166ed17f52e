"""High dynamic range to what screens and networks were made for: PQ and HLG (ITU-R BT.2100) to BT.709 colours with BT.1886's gamma.

Reference white of HDR, 203 cd/m2 (BT.2408), becomes white. What is brighter is pressed below it by the spline of BT.2390 (EETF), along
which everything under its knee, 88 cd/m2 here, stays as bright as it was: that is where skin lies. A picture is taken to be mastered for
1000 cd/m2, as nearly all are; what is brighter still is clipped. Hue is kept, since a pixel's strongest colour decides for all three.

Light is relative to those 1000 cd/m2 here. Whatever depends on one number is looked up in a table.
"""

from collections.abc import Callable
from enum import IntEnum
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PEAK_NITS: Final = 1000.0
WHITE_NITS: Final = 203.0
SDR_GAMMA: Final = 2.4

CODES: Final = 4096
"""Steps of every table: 12 bits, as BT.2100 has at most."""
SDR_CODES: Final = 65536
"""More of these, since gamma spreads the darkest apart."""

PQ_NITS: Final = 10_000.0
PQ_M1, PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
PQ_C1, PQ_C2, PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
HLG_A, HLG_B, HLG_C = 0.17883277, 0.28466892, 0.55991073
HLG_GAMMA: Final = 1.2
"""Of a display that reaches PEAK_NITS."""

STRIP_ROWS: Final = 32

LUMINANCE_OF_2020: Final = np.array([0.2627, 0.6780, 0.0593], np.float32)
FROM_2020_TO_709: Final = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)
"""For linear light, from BT.2087's primaries. Rows are red, green and blue of BT.709."""

Values = NDArray[np.floating[Any]]


class Curve(IntEnum):
    """How light became code values, in H.273's numbers."""

    PQ = 16
    HLG = 18


def sdr_rgb(rgb_hwc: NDArray[np.uint16], curve: Curve) -> NDArray[np.uint8]:
    """(H, W, 3) of BT.2020 in full range, 16 bits, to as many bytes of BT.709.

    Strip by strip: what stays in the processor's cache is four times as fast.
    """
    strips = (rgb_hwc[top : top + STRIP_ROWS] for top in range(0, len(rgb_hwc), STRIP_ROWS))
    return np.concatenate([_sdr_strip(strip, curve) for strip in strips])


def _sdr_strip(rgb_hwc: NDArray[np.uint16], curve: Curve) -> NDArray[np.uint8]:
    light = np.take(_table(_light_of, curve), rgb_hwc >> 4).reshape(-1, 3)
    if curve == Curve.HLG:  # what a display makes of it depends on the luminance of all three
        light *= np.power(light @ LUMINANCE_OF_2020, np.float32(HLG_GAMMA - 1))[:, None]
    strongest = np.maximum(np.maximum(light[:, 0], light[:, 1]), light[:, 2])
    light *= np.take(_table(_gain_of, curve), (strongest * (CODES - 1)).astype(np.uint16))[:, None]
    shown = np.clip(light @ FROM_2020_TO_709.T, 0, 1) * (SDR_CODES - 1) + np.float32(0.5)
    codes: NDArray[np.uint8] = np.take(_sdr_codes(), shown.astype(np.uint16))
    return codes.reshape(rgb_hwc.shape)


def pq_nits(code: Values) -> Values:
    """BT.2100's EOTF: cd/m2 of a code value in 0-1."""
    power = np.power(code, 1 / PQ_M2)
    return PQ_NITS * np.power(np.maximum(power - PQ_C1, 0) / (PQ_C2 - PQ_C3 * power), 1 / PQ_M1)


def pq_code(nits: Values) -> Values:
    """The inverse of `pq_nits`."""
    power = np.power(nits / PQ_NITS, PQ_M1)
    code: Values = np.power((PQ_C1 + PQ_C2 * power) / (1 + PQ_C3 * power), PQ_M2)
    return code


def hlg_scene(code: Values) -> Values:
    """BT.2100's inverse OETF: light of the scene, in 0-1, of a code value in 0-1."""
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - HLG_C) / HLG_A) + HLG_B) / 12)


def pressed_nits(nits: Values) -> Values:
    """BT.2390's EETF: brightness up to PEAK_NITS brought to WHITE_NITS at most."""
    white, peak = pq_code(np.array([WHITE_NITS, PEAK_NITS]))
    highest = white / peak
    knee = 1.5 * highest - 0.5
    value = pq_code(nits) / peak
    t = np.clip((value - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * highest
    return pq_nits(np.where(value < knee, value, spline) * peak)


def _light_of(code: Values, curve: Curve) -> Values:
    return hlg_scene(code) if curve == Curve.HLG else np.minimum(pq_nits(code) / PEAK_NITS, 1)


def _gain_of(strongest: Values, _: Curve) -> Values:
    """What light is multiplied with, to be relative to WHITE_NITS."""
    nits = np.maximum(strongest, 1 / CODES) * PEAK_NITS
    return pressed_nits(nits) / nits * (PEAK_NITS / WHITE_NITS)


@cache
def _table(function: Callable[[Values, Curve], Values], curve: Curve) -> NDArray[np.float32]:
    return function(np.linspace(0, 1, CODES), curve).astype(np.float32)


@cache
def _sdr_codes() -> NDArray[np.uint8]:
    codes: NDArray[np.uint8] = np.round(255 * np.power(np.linspace(0, 1, SDR_CODES), 1 / SDR_GAMMA)).astype(np.uint8)
    return codes
