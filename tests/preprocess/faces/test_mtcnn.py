"""The three stages beside facenet-pytorch's own `MTCNN.detect`: the same networks, and other plumbing between them."""

import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN
from PIL import Image
from skimage.data import astronaut, coffee
from torch.nn.functional import interpolate

from services.preprocess.faces import mtcnn
from services.preprocess.faces.boxes import Boxes, Located, agreed, best
from services.preprocess.faces.mtcnn import Networks, level_scales

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
    """As facenet-pytorch does it: `area`, in floating point, each level of the pyramid from the frame, faces at its edge stretched."""

    def area(picture, size):
        return interpolate(picture.float(), size=size, mode="area")

    def levels(frames, scales):
        height, width = frames[0].shape[-2:]
        return [area(torch.stack(list(frames)), (int(height * scale + 1), int(width * scale + 1))) for scale in scales]

    def inside(frame, left, top, right, bottom):
        return frame[None, :, max(top, 1) - 1 : bottom, max(left, 1) - 1 : right]

    monkeypatch.setattr(mtcnn, "cut_out", inside)
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
    portrait = pictures()[0]
    (box,), _, (points,) = theirs(portrait, min_face_px=20)
    ours = found(networks, [portrait], min_face_px=20, choose=choose)
    assert len(ours) == 1
    assert ours.boxes.xyxy[0] == pytest.approx(box, abs=0.1 * (box[2] - box[0]))
    assert np.linalg.norm(ours.landmarks_xy[0] - points, axis=1).mean() <= 0.04 * np.linalg.norm(points[0] - points[1])


SIDES = [((0, 512), (190, 512)), ((0, 512), (0, 255))]
ENDS = [((70, 512), (0, 512)), ((0, 160), (0, 512))]


def off(landmarks, *, corner):
    """Mean distance of the first face's landmarks from where they are in the whole portrait, in distances of the eyes."""
    _, _, (whole,) = theirs(astronaut(), min_face_px=40)
    return np.linalg.norm(landmarks[0] + corner - whole, axis=1).mean() / np.linalg.norm(whole[0] - whole[1])


@pytest.mark.parametrize(("rows", "columns"), SIDES + ENDS)
def test_landmarks_at_the_edge_are_where_they_are_in_the_whole_picture(networks, rows, columns):
    """A tenth of the face lies outside."""
    part = np.ascontiguousarray(astronaut()[slice(*rows), slice(*columns)])
    assert off(found(networks, [part], min_face_px=40, choose=agreed).landmarks_xy, corner=(columns[0], rows[0])) < 0.05


@pytest.mark.parametrize(("rows", "columns"), SIDES)
def test_those_of_facenet_pytorch_are_not(rows, columns):
    """Why frames are padded here. Should this fail one day, they have mended it."""
    part = np.ascontiguousarray(astronaut()[slice(*rows), slice(*columns)])
    _, _, landmarks = theirs(part, min_face_px=40)
    assert off(landmarks, corner=(columns[0], rows[0])) > 0.1


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


def test_a_face_is_not_mixed_with_a_box_around_it():
    small, around, elsewhere = (100, 100, 200, 200), (50, 50, 400, 400), (500, 100, 600, 200)
    xyxy = np.array([small, (104, 100, 204, 200), around, elsewhere], np.float32)
    points = np.repeat(xyxy[:, None, :2], 5, axis=1)
    boxes = Boxes(frames=np.zeros(4, np.intp), xyxy=xyxy, scores=np.array([0.9, 0.9, 0.8, 0.75], np.float32))
    faces = agreed(Located(boxes=boxes, landmarks_xy=points))
    assert faces.boxes.xyxy[:, 0] == pytest.approx([102, 500])
    assert faces.landmarks_xy[:, 0, 0] == pytest.approx([102, 500])


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
