"""The three stages beside facenet-pytorch's own `MTCNN.detect`: the same networks, and other plumbing between them."""

import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN
from PIL import Image
from skimage.data import astronaut, coffee
from torch.nn.functional import interpolate

from services.preprocess import mtcnn
from services.preprocess.mtcnn import Boxes, Networks, agreed, best, level_scales

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def networks():
    return Networks()


def pictures():
    """Of one size: one face, two faces of which one is cut by the edge, and none."""
    portrait = astronaut()[:400, :500]
    pair = np.full((400, 500, 3), 90, np.uint8)
    pair[:250, :240] = portrait[:250, 110:350]
    pair[200:400, 420:] = np.asarray(Image.fromarray(portrait[:250, 60:370]).resize((248, 200)))[:, 40:120]
    return [portrait, pair, coffee()[:400, :500]]


def published_resampling(monkeypatch):
    """As facenet-pytorch does it: `area`, in floating point, each level of the pyramid from the frame."""

    def area(picture, size):
        return interpolate(picture.float(), size=size, mode="area")

    def levels(frames, scales):
        height, width = frames[0].shape[-2:]
        return [area(torch.stack(list(frames)), (int(height * scale + 1), int(width * scale + 1))) for scale in scales]

    monkeypatch.setattr(mtcnn, "resampled", area)
    monkeypatch.setattr(mtcnn, "pyramid", levels)


def found(networks, frames_rgb, *, min_face_px, choose):
    frames = [networks.frame_tensor(frame) for frame in frames_rgb]
    return choose(networks.locate(frames, networks.refine(frames, networks.propose(frames, min_face_px=min_face_px))))


def theirs(frame_rgb, *, min_face_px):
    """Boxes (N, 4), confidences (N,) and landmarks (N, 5, 2), most certain first."""
    boxes, confidences, landmarks = MTCNN(keep_all=True, min_face_size=min_face_px).detect(frame_rgb, landmarks=True)
    if boxes is None:
        return np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2))
    order = np.argsort(-confidences.astype(float))
    return boxes.astype(float)[order], confidences.astype(float)[order], landmarks.astype(float)[order]


@pytest.mark.parametrize("min_face_px", [20, 48])
def test_with_their_resampling_the_faces_are_theirs(networks, monkeypatch, min_face_px):
    published_resampling(monkeypatch)
    faces = found(networks, pictures(), min_face_px=min_face_px, choose=best)
    total = 0
    for number, picture in enumerate(pictures()):
        boxes, confidences, landmarks = theirs(picture, min_face_px=min_face_px)
        ours = faces.picked(faces.boxes.frames == number)
        assert len(ours) == len(boxes)
        assert ours.boxes.xyxy == pytest.approx(boxes, abs=0.5)
        assert ours.boxes.scores == pytest.approx(confidences, abs=1e-3)
        assert ours.landmarks_xy == pytest.approx(landmarks, abs=0.5)
        total += len(boxes)
    assert total >= 2


@pytest.mark.parametrize("choose", [best, agreed])
def test_with_our_resampling_they_are_nearly_theirs(networks, choose):
    faces = found(networks, pictures(), min_face_px=20, choose=choose)
    for number, picture in enumerate(pictures()):
        boxes, confidences, landmarks = theirs(picture, min_face_px=20)
        ours = faces.picked(faces.boxes.frames == number)
        assert len(ours) == (confidences >= 0.9).sum()
        for box, points in zip(boxes, landmarks, strict=True):
            nearest = int(np.abs(ours.boxes.xyxy - box).sum(axis=1).argmin())
            side, eyes = box[2] - box[0], np.linalg.norm(points[0] - points[1])
            assert ours.boxes.xyxy[nearest] == pytest.approx(box, abs=0.1 * side)
            assert np.linalg.norm(ours.landmarks_xy[nearest] - points, axis=1).mean() <= 0.05 * eyes


def test_a_batch_is_what_its_frames_are(networks):
    together = found(networks, pictures(), min_face_px=40, choose=agreed)
    for number, picture in enumerate(pictures()):
        alone = found(networks, [picture], min_face_px=40, choose=agreed)
        ours = together.picked(together.boxes.frames == number)
        assert ours.boxes.xyxy == pytest.approx(alone.boxes.xyxy, abs=0.1)
        assert ours.landmarks_xy == pytest.approx(alone.landmarks_xy, abs=0.1)


@pytest.mark.parametrize("size", [(1, 1), (39, 39), (10, 2000)])
def test_frames_in_which_no_face_fits(networks, size):
    frame = networks.frame_tensor(np.zeros((*size, 3), np.uint8))
    assert len(networks.propose([frame], min_face_px=40)) == 0


def test_nothing_in_nothing_out(networks):
    nothing = networks.propose([], min_face_px=20)
    assert len(networks.refine([], nothing)) == len(networks.locate([], nothing)) == 0


def test_squares_outside_the_frame_hold_no_face(networks):
    frame = networks.frame_tensor(astronaut())
    outside = Boxes.in_one_frame(np.array([[-300, -300, -200, -200], [600, 600, 700, 700], [100, -90, 190, 0]], np.float32))
    assert len(networks.refine([frame], outside)) == len(networks.locate([frame], outside)) == 0


def test_landmarks_agree_better_than_the_best_square(networks):
    """The portrait moved by a pixel at a time: where a landmark seems to go beside it is the network's jitter."""
    jitter = {best: [], agreed: []}
    for choose, places in jitter.items():
        for step in range(8):
            moved = np.roll(astronaut(), step, axis=1)
            (points,) = found(networks, [moved], min_face_px=40, choose=choose).landmarks_xy
            places.append(points - (step, 0))
    assert np.std(jitter[agreed], axis=0).mean() < 0.8 * np.std(jitter[best], axis=0).mean()


def test_the_pyramid_ends_where_no_face_fits():
    assert level_scales(11, min_face_px=12) == []
    assert level_scales(12, min_face_px=12) == [1.0]
    assert level_scales(100, min_face_px=24) == pytest.approx([0.5 * 0.709**level for level in range(5)])


def test_boxes_check_their_shape():
    with pytest.raises(ValueError, match="2 boxes"):
        Boxes(frames=np.zeros(2, np.intp), xyxy=np.zeros((1, 4), np.float32), scores=np.zeros(2, np.float32))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_the_same(networks):
    faces = [found(each, pictures(), min_face_px=40, choose=agreed) for each in (networks, Networks(device="cuda"))]
    ours, on_gpu = (each.picked(np.lexsort((each.boxes.xyxy[:, 0], each.boxes.frames))) for each in faces)
    assert on_gpu.boxes.xyxy == pytest.approx(ours.boxes.xyxy, abs=2)
    assert on_gpu.landmarks_xy == pytest.approx(ours.landmarks_xy, abs=2)
