"""The demo's clip has one face in sight all the time, which moves and grows."""

import numpy as np
import pytest

from deploy.clip import make_clip
from services.preprocess.decode.video import open_video
from services.preprocess.faces.search import FaceDetector


@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize("size", [(640, 360), (360, 640)])
def test_one_face_all_the_time(tmp_path, size):
    path = tmp_path / "clip.mp4"
    make_clip(path, seconds=2, size=size)
    with open_video(path) as video:
        frames = list(video.frames(4))
        media = video.media()
    assert (media.width, media.height, media.duration_ms, media.codec) == (*size, 2000, "h264")
    found = FaceDetector().detect([frame.rgb_hwc for frame in frames])
    assert [len(faces) for faces in found] == [1] * len(frames)
    boxes = np.array([faces[0].box_xyxy for faces in found])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= size).all()
    heights = boxes[:, 3] - boxes[:, 1]
    assert heights[-1] > 1.3 * heights[0]


def test_the_same_pictures_every_time(tmp_path):
    for name in ("one.mp4", "two.mp4"):
        make_clip(tmp_path / name, seconds=0.4)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
