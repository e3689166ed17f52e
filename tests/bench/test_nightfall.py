"""What the bench of faces in the dark rests on: whose faces they are, where they hang, and how far a share may be off."""

import io
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image
from skimage.data import astronaut

from services.preprocess.faces.regions import Pixels
from services.preprocess.faces.search import FaceDetector
from services.preprocess.light.lowlight import Lowlight
from shared.errors import DataUnusable
from shared.releases import DataSet, Release
from tests.bench.chance import percentage
from tests.bench.darkness import DAYLIGHT, in_the_dark
from tests.bench.in_process import InProcess
from tests.bench.nightfall import verdicts
from tests.bench.people import Labelled, held_out
from tests.bench.walls import PLACES, SAMPLES, SIZE, walls
from tests.random_release import write_random_release

FACE = astronaut()[10:200, 130:320]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    return InProcess(write_random_release(tmp_path_factory.mktemp("releases") / "000001"))


def faces_of(subjects: int, *, rgb_hwc: Pixels = FACE) -> list[Labelled]:
    return [Labelled(rgb_hwc=rgb_hwc, label="happy", subject=f"s{number}") for number in range(subjects)]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A hundred people, a tiny picture of each."""
    content = io.BytesIO()
    Image.fromarray(FACE).resize((16, 16)).save(content, "PNG")
    rows = [{"image": content.getvalue(), "label": "happy", "subject": f"s{number}"} for number in range(100)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "faces.parquet")
    return tmp_path / "faces.parquet"


def taught(release: Release, *, held_out: float) -> Release:
    lesson = DataSet(name="faces", use="train", samples=90, licence="CC-BY", sha256="0" * 64, held_out=held_out)
    return release.model_copy(update={"data": (lesson,)})


def test_only_people_count_whom_neither_the_release_nor_the_generator_has_learnt_from(faces: Path, classifier: InProcess) -> None:
    strange, careful, careless = (
        held_out(faces, release=release)
        for release in (classifier.release, taught(classifier.release, held_out=0.5), taught(classifier.release, held_out=0.05))
    )
    subjects = {person.subject for person in careful}
    assert 5 <= len(subjects) <= 30
    assert {person.subject for person in strange} == subjects
    assert {person.subject for person in careless} < subjects


def test_who_has_been_learnt_from_is_not_measured_on(faces: Path, classifier: InProcess) -> None:
    with pytest.raises(DataUnusable, match=r"faces\.parquet"):
        held_out(faces, release=taught(classifier.release, held_out=0.0))


def test_everybody_hangs_somewhere_and_stays_while_the_camera_moves() -> None:
    first, second = walls(faces_of(len(PLACES) + 2))
    assert [len(first.people), len(second.people)] == [len(PLACES), 2]
    assert [frame.rgb_hwc.shape for frame in first.frames] == [(SIZE[1], SIZE[0], 3)] * SAMPLES
    for number, place in enumerate(PLACES):
        assert place.left + place.side <= SIZE[0]
        for frame, step in zip(first.frames, range(SAMPLES), strict=True):
            middle = (place.left + place.side / 2 - 3 * step, place.top + place.side / 2 - 2 * step)
            assert first.who(*middle, pts_ms=frame.pts_ms) == number
            assert second.who(*middle, pts_ms=frame.pts_ms) == (number if number < 2 else None)
    assert first.who(1, 1, pts_ms=0) is None


@pytest.mark.usefixtures("one_torch_thread")
def test_everybody_on_a_wall_gets_the_verdict_of_a_track(classifier: InProcess) -> None:
    (wall,) = walls(faces_of(len(PLACES)))
    told = verdicts(wall, Lowlight(method="none"), detector=FaceDetector(), classifier=classifier)
    assert None not in told


@pytest.mark.usefixtures("one_torch_thread")
def test_pictures_of_nobody_have_no_verdicts(classifier: InProcess) -> None:
    (wall,) = walls(faces_of(3, rgb_hwc=np.full_like(FACE, 90)))
    told = verdicts(wall, Lowlight(method="none"), detector=FaceDetector(), classifier=classifier)
    assert told == [None] * 3


def test_less_light_is_darker_and_daylight_is_what_it_was() -> None:
    means = [float(in_the_dark([FACE], exposure)[0].mean()) for exposure in (DAYLIGHT, 1 / 4, 1 / 32)]
    assert means == sorted(means, reverse=True)
    assert (in_the_dark([FACE], DAYLIGHT)[0] == FACE).all()


def test_a_share_has_the_error_of_drawing_other_people() -> None:
    people = faces_of(400)
    coin = [float(number % 2) for number in range(400)]
    shown = percentage("heads", coin, people=people)
    assert (shown.value, shown.error) == (50, pytest.approx(2.5, rel=0.1))
    assert percentage("all", coin, people=people, of=coin).error == pytest.approx(0)
    assert np.isnan(percentage("of nothing", [0.0] * 400, people=people, of=[0.0] * 400).value)


def test_a_hundred_pictures_of_one_person_say_no_more_than_one() -> None:
    people = faces_of(4) * 100
    halves = [float(person.subject in {"s0", "s1"}) for person in people]
    assert percentage("of people", halves, people=people).error == pytest.approx(25, rel=0.1)
