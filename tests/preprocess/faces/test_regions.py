import math

import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage.data import astronaut

from services.preprocess.faces.regions import (
    BOXES,
    EYES_XY,
    MAX_UPRIGHT_PX,
    MOUTH_XY,
    face_tensor,
    upright_face,
    upright_side_px,
    upright_thumbnail,
)

POINTS = {"left eye": EYES_XY[0], "right eye": EYES_XY[1], "left mouth corner": MOUTH_XY[0], "right mouth corner": MOUTH_XY[1]}
COLOURS = {"left eye": (255, 0, 0), "right eye": (0, 255, 0), "left mouth corner": (0, 0, 255), "right mouth corner": (255, 255, 0)}


def drawn_face(*, side: float, roll_degrees: float, centre: tuple[float, float] = (320, 240)) -> tuple[np.ndarray, np.ndarray]:
    """A frame with a coloured dot on each landmark of a face of this size and tilt, and the landmarks."""
    roll = math.radians(roll_degrees)
    turn = np.array(((math.cos(roll), -math.sin(roll)), (math.sin(roll), math.cos(roll))))
    placed = {name: turn @ ((np.array(point) - 0.5) * side) + centre for name, point in POINTS.items()}
    image = Image.new("RGB", (640, 480), (90, 90, 90))
    draw = ImageDraw.Draw(image)
    radius = side * 0.03
    for name, (x, y) in placed.items():
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[name])
    nose = turn @ np.array((0.0, 0.1 * side)) + centre
    order = [placed["left eye"], placed["right eye"], nose, placed["left mouth corner"], placed["right mouth corner"]]
    return np.asarray(image), np.array(order, dtype=np.float32)


def centre_of(crop_hwc: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float] | None:
    """Where a dot is, in fractions of the crop."""
    near = np.abs(crop_hwc.astype(int) - colour).sum(axis=2) < 150
    if not near.any():
        return None
    rows, columns = np.nonzero(near)
    return (columns.mean() + 0.5) / crop_hwc.shape[1], (rows.mean() + 0.5) / crop_hwc.shape[0]


@pytest.mark.parametrize("roll", [-40, -10, 0, 25])
@pytest.mark.parametrize("side", [60, 170, 330])
def test_landmarks_land_where_they_belong(side: float, roll: float) -> None:
    frame, landmarks = drawn_face(side=side, roll_degrees=roll)
    tensor = face_tensor(frame, landmarks, size=96)
    assert tensor.shape == (9, 96, 96)
    assert tensor.dtype == np.uint8
    face = tensor[0:3].transpose(1, 2, 0)
    for name, target in POINTS.items():
        assert centre_of(face, COLOURS[name]) == pytest.approx(target, abs=0.02), name


def test_eyes_and_mouth_are_cut_from_their_halves() -> None:
    frame, landmarks = drawn_face(side=200, roll_degrees=15)
    tensor = face_tensor(frame, landmarks, size=96)
    for region, rows, names in (
        ("eyes", slice(3, 6), ("left eye", "right eye")),
        ("mouth", slice(6, 9), ("left mouth corner", "right mouth corner")),
    ):
        crop = tensor[rows].transpose(1, 2, 0)
        left, top, right, bottom = BOXES[region]
        for name, (x, y) in POINTS.items():
            expected = pytest.approx(((x - left) / (right - left), (y - top) / (bottom - top)), abs=0.03) if name in names else None
            assert centre_of(crop, COLOURS[name]) == expected, f"{name} in the {region} crop"


def test_a_turned_head_keeps_its_size() -> None:
    _, landmarks = drawn_face(side=200, roll_degrees=0)
    turned = landmarks.copy()
    turned[:, 0] = 320 + (turned[:, 0] - 320) * 0.5
    assert upright_side_px(landmarks) == pytest.approx(200, rel=0.01)
    assert upright_side_px(turned) > 0.6 * 200, "the eyes alone would say half"


def test_outside_the_frame_is_black() -> None:
    frame, landmarks = drawn_face(side=200, roll_degrees=0, centre=(20, 240))
    face = face_tensor(frame, landmarks, size=64)[0:3]
    assert (face[:, :, :20] == 0).all()
    assert (face[:, 30, 40:] > 0).any()


def test_large_faces_are_averaged_not_skipped() -> None:
    """A fine checkerboard must come out grey: nearest or bilinear sampling alone would alias."""
    board = (np.indices((2000, 2000)).sum(axis=0) % 2 * 255).astype(np.uint8)
    frame = np.repeat(board[:, :, np.newaxis], 3, axis=2)
    landmarks = np.array([(x * 1800 + 100, y * 1800 + 100) for x, y in (*EYES_XY, (0.5, 0.6), *MOUTH_XY)], dtype=np.float32)
    assert MAX_UPRIGHT_PX / 2 < upright_face(frame, landmarks, least_px=64).width <= MAX_UPRIGHT_PX
    inner = face_tensor(frame, landmarks, size=64)[:, 4:-4, 4:-4]
    assert inner.min() > 100
    assert inner.max() < 155


@pytest.mark.parametrize("roll", [0, 17, 45])
@pytest.mark.parametrize("square_px", [1, 2])
def test_a_fine_pattern_on_a_face_of_400_px_comes_out_grey(square_px: int, roll: float) -> None:
    """Not as moire: every region is averaged down, however the face is turned."""
    board = (np.indices((700, 700)) // square_px).sum(axis=0) % 2 * 255
    frame = np.repeat(board.astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
    _, landmarks = drawn_face(side=400, roll_degrees=roll, centre=(350, 350))
    for tensor in (face_tensor(frame, landmarks, size=48), np.asarray(upright_thumbnail(frame, landmarks, size=32))):
        assert abs(tensor.astype(float).mean() - 127.5) < 3
        assert tensor.std() < 16, "a pattern that is not averaged has 127"


@pytest.mark.parametrize("side", [400, 511, 513, 700, 1000, 1023, 1030, 1500, 2100])
def test_stripes_on_faces_of_every_size_come_out_grey(side: int) -> None:
    """One pixel wide, and so much finer than anything that is cut."""
    assert face_tensor(*striped_face(side), size=64)[:, 2:-2, 2:-2].std() < 6, "stripes that are not averaged have 127"


@pytest.mark.parametrize("side", [65, 70, 100, 127, 129, 180, 700])
def test_stripes_on_faces_of_every_size_come_out_grey_in_a_thumbnail(side: int) -> None:
    assert np.asarray(upright_thumbnail(*striped_face(side), size=32))[2:-2, 2:-2].std() < 6


def striped_face(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame in upright stripes, and the landmarks of a face that fills it but for ten pixels at each edge."""
    stripes = np.indices((side + 20, side + 20))[1] % 2 * 255
    landmarks = np.array([(x * side + 10, y * side + 10) for x, y in (*EYES_XY, (0.5, 0.6), *MOUTH_XY)], dtype=np.float32)
    return np.repeat(stripes.astype(np.uint8)[:, :, np.newaxis], 3, axis=2), landmarks


@pytest.mark.parametrize("roll", [-90, -30, 20, 60, 180])
def test_a_tilted_head_gives_the_crop_of_an_upright_one(roll: float) -> None:
    """The portrait, turned as a whole: only resampling tells the two crops apart."""
    portrait = Image.fromarray(astronaut()[:320, 64:384])
    landmarks = np.array([(146, 112), (186, 110), (166, 141), (150, 163), (186, 161)], dtype=np.float32)
    turn = math.radians(roll)
    turned = (landmarks - 160) @ np.array(((math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn)))) + 160
    tilted = np.asarray(portrait.rotate(-roll, Image.Resampling.BICUBIC))
    upright, levelled = (
        face_tensor(frame, points.astype(np.float32), size=48).astype(float)
        for frame, points in ((np.asarray(portrait), landmarks), (tilted, turned))
    )
    assert np.abs(upright - levelled).mean() < 3
    assert np.corrcoef(upright.ravel(), levelled.ravel())[0, 1] > 0.99


def test_a_thumbnail_is_the_face_of_the_tensor() -> None:
    frame, landmarks = drawn_face(side=170, roll_degrees=-20)
    thumbnail = np.asarray(upright_thumbnail(frame, landmarks, size=48))
    face = face_tensor(frame, landmarks, size=48)[0:3].transpose(1, 2, 0)
    assert np.abs(thumbnail.astype(float) - face).mean() < 3


def test_landmarks_that_coincide_do_not_crash() -> None:
    frame, _ = drawn_face(side=200, roll_degrees=0)
    assert face_tensor(frame, np.full((5, 2), 100, dtype=np.float32), size=64).shape == (9, 64, 64)


@pytest.mark.parametrize("most_px", [24, 64, MAX_UPRIGHT_PX])
@pytest.mark.parametrize("centre", [(331.7, 240.2), (12.3, 250.9), (633.1, 470.4), (-400.0, 100.0), (900.0, 700.0)])
def test_a_face_is_cut_from_its_surroundings_as_from_the_whole_frame(centre: tuple[float, float], most_px: int) -> None:
    """As one would without minding the time: the whole frame reduced, and Pillow told where in it the eyes and mouth corners are."""
    _, landmarks = drawn_face(side=170.3, roll_degrees=21, centre=centre)
    frame = np.random.default_rng(1).integers(0, 256, (479, 641, 3), dtype=np.uint8)
    cut = np.asarray(upright_face(frame, landmarks, least_px=16, most_px=most_px))
    shrink, side = round(170.3 / cut.shape[0]), cut.shape[0]
    centred = np.array([(x - 0.5, y - 0.5, 1) for x, y in POINTS.values()])
    to_frame, *_ = np.linalg.lstsq(centred, landmarks[[0, 1, 3, 4]].astype(float), rcond=None)
    matrix = np.array((*to_frame[:2] / side, to_frame[2] - to_frame[:2].sum(axis=0) / 2)) / shrink
    whole = Image.fromarray(frame).reduce(shrink) if shrink > 1 else Image.fromarray(frame)
    expected = whole.transform((side, side), Image.Transform.AFFINE, tuple(matrix.T.ravel()), Image.Resampling.BILINEAR)
    assert np.abs(cut.astype(int) - np.asarray(expected)).max() <= 1
