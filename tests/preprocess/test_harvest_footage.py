"""Clips per class, picture sequences and folders of videos, made from one real portrait."""

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage import data

from services.preprocess.decode.frames import Frame
from services.preprocess.faces.regions import face_tensor
from services.preprocess.faces.search import FaceDetector
from services.preprocess.frontend import FRAMES_PER_BATCH
from services.preprocess.harvest.ckplus import CODES
from services.preprocess.harvest.cut import FootageCutter
from services.preprocess.harvest.material import Footage, Tally
from services.preprocess.light.lowlight import Lowlight
from shared.crops import SAMPLES, STORE, Store, read_samples
from shared.errors import DataUnusable, LabelUnknown, MediaCorrupt, PictureUnreadable
from shared.expressions import LABELS
from shared.jobs import Options
from training.datasets import read_clips

PORTRAIT = data.astronaut()[:250, 60:370]
GREY = np.full((270, 640, 3), 96, np.uint8)
COFFEE = np.asarray(Image.fromarray(data.coffee()).resize((640, 270)))
"""Nobody, and nothing like the portrait's frame."""
FPS = 8

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def scene(*faces: tuple[int, float]) -> np.ndarray:
    """The portrait on grey, at each x and scale."""
    picture = GREY.copy()
    for x, scale in faces:
        face = np.asarray(Image.fromarray(PORTRAIT).resize((round(310 * scale), round(250 * scale))))
        picture[5 : 5 + face.shape[0], x : x + face.shape[1]] = face
    return picture


def two_faces(number: int) -> np.ndarray:
    """A small face to the left, and a large one that drifts."""
    return scene((5, 0.6), (230 + 4 * number, 1.0))


def brightening(number: int) -> np.ndarray:
    """One face; the picture's brightness tells its number, up to 30."""
    return (scene((150, 1.0)) * (0.4 + 0.02 * number)).astype(np.uint8)


def dropped(store) -> dict[str, int]:
    return Store.model_validate_json((store / STORE).read_bytes()).dropped


# --- AFEW ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def afew(tmp_path, clips):
    root = tmp_path / "Train_AFEW"
    for label in ("Angry", "Happy", "Surprise"):
        (root / label).mkdir(parents=True)
    clips.write("Train_AFEW/Angry/000.avi", frames=6, fps=FPS, picture=two_faces, codec="mpeg4")
    clips.write("Train_AFEW/Happy/001.avi", frames=20, fps=FPS, picture=brightening, codec="mpeg4", b="8000000")
    clips.write("Train_AFEW/Surprise/002.avi", frames=4, fps=FPS, picture=lambda _: GREY, codec="mpeg4")
    return root


def test_a_clip_is_its_main_face_from_the_first_frame_to_the_last(afew, harvested) -> None:
    store = harvested("afew", afew, frames=5, enhance="never")
    angry, happy = read_samples(store / SAMPLES)
    assert (angry.label, angry.source, angry.subject) == ("angry", "Train_AFEW/Angry/000.avi", "Train_AFEW/Angry/000.avi")
    assert (angry.first, angry.count, happy.first, happy.count) == (0, 5, 5, 5)
    assert dropped(store) == {"no_face": 1}
    clips = read_clips(store)
    assert clips.labels.tolist() == [LABELS.index("angry"), LABELS.index("happy")]
    brightness = np.load(store / "frames.npy")[5:, :3].mean(axis=(1, 2, 3))
    numbers = (brightness / brightness[0] - 1) * 20
    assert numbers == pytest.approx([0, 4, 10, 14, 19], abs=0.9), "5 of 20, from the first to the last"


def test_the_larger_face_is_the_one_that_counts(afew, harvested) -> None:
    store = harvested("afew", afew, frames=6, enhance="never")
    large = FaceDetector().detect([two_faces(0)])[0][0]
    assert large.box_xyxy[0] > 230
    expected = face_tensor(two_faces(0), large.landmarks_xy, size=64)
    assert np.abs(np.load(store / "frames.npy")[0].astype(int) - expected).mean() < 6, "but for what the codec does"


def test_a_clip_that_cannot_be_read_is_counted(afew, harvested) -> None:
    (afew / "Happy" / "003.avi").write_bytes(b"RIFF")
    with pytest.raises(PictureUnreadable, match="1 of 4"):
        harvested("afew", afew)
    assert dropped(harvested("afew", afew, most_unreadable=0.25)) == {"no_face": 1, "unreadable": 1}


def test_a_class_of_clips_that_is_not_ours_is_named(afew, harvested) -> None:
    (afew / "Contempt").mkdir()
    with pytest.raises(LabelUnknown, match=r"'Contempt' at .*Train_AFEW/Contempt"):
        harvested("afew", afew)


# --- CK+ -----------------------------------------------------------------------------------------------------------


def write_sequence(root, name: str, code: str | None, *, pictures: int = 4) -> None:
    person, number = name.split("/")
    folder = root / "cohn-kanade-images" / name
    folder.mkdir(parents=True)
    for index in range(1, pictures + 1):
        Image.fromarray(brightening(4 * index)).convert("L").save(folder / f"{person}_{number}_{index:08d}.png")
    (root / "Emotion" / name).mkdir(parents=True)
    if code is not None:
        (root / "Emotion" / name / f"{person}_{number}_{pictures:08d}_emotion.txt").write_text(f"   {code}\n")


@pytest.fixture
def ckplus(tmp_path):
    root = tmp_path / "CK+"
    write_sequence(root, "S005/001", "3.0000000e+00")
    write_sequence(root, "S005/002", None)
    write_sequence(root, "S010/001", "2.0000000e+00")
    write_sequence(root, "S010/002", "7.0000000e+00", pictures=3)
    (root / "cohn-kanade-images" / ".DS_Store").write_bytes(b"")
    return root


def test_labelled_sequences_are_clips_of_their_subject(ckplus, harvested) -> None:
    store = harvested("ckplus", ckplus)
    assert [(sample.label, sample.subject, sample.source, sample.count) for sample in read_samples(store / SAMPLES)] == [
        ("disgust", "S005", "CK+/cohn-kanade-images/S005/001", 4),
        ("surprise", "S010", "CK+/cohn-kanade-images/S010/002", 3),
    ]
    assert dropped(store) == {"unlabelled": 1, "contempt": 1}


def test_the_onset_may_be_a_neutral_sample(ckplus, harvested) -> None:
    store = harvested("ckplus", ckplus, neutral_onset=True)
    samples = read_samples(store / SAMPLES)
    assert [(sample.label, sample.subject, sample.count) for sample in samples] == [
        ("neutral", "S005", 1),
        ("disgust", "S005", 4),
        ("neutral", "S010", 1),
        ("surprise", "S010", 3),
    ]
    frames = np.load(store / "frames.npy")
    assert np.array_equal(frames[0], frames[1]), "the first of the four"
    assert samples[0].source == "CK+/cohn-kanade-images/S005/001#onset"


def test_the_codes_are_those_of_the_set() -> None:
    assert set(CODES) == {*LABELS, "contempt"}


@pytest.mark.parametrize("code", ["8.0000000e+00", "1.5", "nan", "-1", "happy", ""])
def test_a_code_that_the_set_does_not_have_is_named(code: str, ckplus, harvested) -> None:
    write_sequence(ckplus, "S999/001", code)
    with pytest.raises(LabelUnknown, match=r"in .*S999_001_00000004_emotion\.txt"):
        harvested("ckplus", ckplus)


def test_a_sequence_of_another_size_or_without_pictures_is_unreadable(ckplus, harvested) -> None:
    write_sequence(ckplus, "S011/001", "1.0000000e+00", pictures=0)
    write_sequence(ckplus, "S011/002", "1.0000000e+00")
    Image.fromarray(brightening(0)[:, :500]).save(ckplus / "cohn-kanade-images/S011/002/S011_002_00000005.png")
    store = harvested("ckplus", ckplus, most_unreadable=0.5)
    assert dropped(store)["unreadable"] == 2
    assert {sample.subject for sample in read_samples(store / SAMPLES)} == {"S005", "S010"}


def test_a_folder_that_is_not_the_set_is_refused(ckplus, harvested) -> None:
    with pytest.raises(DataUnusable, match="Emotion is not a folder"):
        harvested("ckplus", ckplus / "cohn-kanade-images")
    (ckplus / "Emotion/S005/001/S005_001_00000002_emotion.txt").write_text("1.0")
    with pytest.raises(DataUnusable, match="2 labels"):
        harvested("ckplus", ckplus)


# --- any videos ----------------------------------------------------------------------------------------------------


@pytest.fixture
def videos(tmp_path, clips):
    """One video in a folder that is called like a video, as BoLD's are."""
    (tmp_path / "BoLD" / "003" / "IzvO.mp4").mkdir(parents=True)
    clips.write("BoLD/003/IzvO.mp4/0010.mp4", frames=24, fps=FPS, picture=two_faces)
    (tmp_path / "BoLD" / "README.txt").write_text("Not a video.")
    return tmp_path / "BoLD"


def test_each_face_is_a_clip_and_all_of_a_video_are_one_subject(videos, harvested) -> None:
    store = harvested("videos", videos, frames=6)
    samples = read_samples(store / SAMPLES)
    assert sorted(sample.source for sample in samples) == [
        "BoLD/003/IzvO.mp4/0010.mp4#t1,0-2875ms",
        "BoLD/003/IzvO.mp4/0010.mp4#t2,0-2875ms",
    ]
    assert [(sample.label, sample.subject, sample.count) for sample in samples] == [(None, "BoLD/003/IzvO.mp4/0010.mp4", 6)] * 2


def test_a_long_look_becomes_several_clips(videos, harvested) -> None:
    samples = read_samples(harvested("videos", videos, frames=6, longest_s=1) / SAMPLES)
    ends = sorted(sample.source.rpartition(",")[2] for sample in samples)
    assert ends == sorted(["0-875ms", "1000-1875ms", "2000-2875ms"] * 2)


def test_a_face_that_has_gone_is_a_clip_before_the_video_ends(tmp_path, clips, harvested) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    clips.write("films/a.mp4", frames=36, fps=FPS, picture=lambda number: scene((150, 1.0)) if number < 8 or number >= 28 else GREY)
    sources = [sample.source for sample in read_samples(harvested("videos", folder) / SAMPLES)]
    assert sources == ["films/a.mp4#t1,0-875ms", "films/a.mp4#t2,3500-4375ms"]


def test_a_face_that_flashes_up_is_not_trusted(tmp_path, clips, harvested) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    clips.write("films/a.mp4", frames=30, fps=FPS, picture=lambda number: scene((150, 1.0)) if number == 4 else GREY, crf="10")
    with pytest.raises(DataUnusable, match="'short_track': 1, 'no_face': 1"):
        harvested("videos", folder)


def test_a_face_of_the_first_frame_alone_is_not_trusted_though_it_has_gone_by_the_second(tmp_path, clips, harvested) -> None:
    """A cut ends it at once. Only where nothing else follows is once enough."""
    folder = tmp_path / "films"
    folder.mkdir()
    for name, frames in (("a", 12), ("b", 2)):
        clips.write(f"films/{name}.mp4", frames=frames, fps=FPS, picture=lambda number: COFFEE if number else scene((150, 1.0)), crf="10")
    store = harvested("videos", folder)
    assert [sample.source for sample in read_samples(store / SAMPLES)] == ["films/b.mp4#t1,0-0ms"]
    assert dropped(store) == {"short_track": 1, "no_face": 1}


def test_what_was_left_out_of_a_clip_that_fails_midway_is_counted() -> None:
    blurred = np.asarray(Image.fromarray(scene((150, 1.0))).filter(ImageFilter.GaussianBlur(7)))

    def frames() -> Iterator[Frame]:
        for number in range(FRAMES_PER_BATCH + 1):
            yield Frame(pts_ms=125 * number, rgb_hwc=blurred)
        raise MediaCorrupt

    tally = Tally()
    cutter = FootageCutter(detector=FaceDetector(), lowlight=Lowlight(method="gamma"), options=Options(), size=64, most=4, tally=tally)
    assert list(cutter.all_faces([Footage(frames=frames, label=None, subject="one", source="one")], longest_ms=2000)) == []
    assert dict(+tally.dropped) == {"blurred": FRAMES_PER_BATCH, "unreadable": 1}


def test_fewer_looks_a_second(videos, harvested) -> None:
    samples = read_samples(harvested("videos", videos, sample_fps=1) / SAMPLES)
    assert [sample.count for sample in samples] == [3, 3]


def test_a_folder_without_videos_is_refused(tmp_path, harvested) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataUnusable, match="nothing to harvest; left out: nothing"):
        harvested("videos", tmp_path / "none")
