"""Uploads are learnt from with their owner's consent, and never without."""

import json
import shutil
from uuid import uuid4

import pytest

from deploy.clip import make_clip
from services.preprocess.harvest.material import Tally
from services.preprocess.harvest.uploads import read_uploads
from shared.crops import SAMPLES, STORE, Store, read_samples
from shared.errors import DataUnusable, MediaMissing
from shared.jobs import Job, Options
from shared.videos import Videos

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "portrait.mp4"
    make_clip(path, seconds=1, fps=8)
    return path


@pytest.fixture
def videos(tmp_path) -> Videos:
    videos = Videos(tmp_path / "data")
    videos.prepare()
    return videos


def upload(videos: Videos, content, *, consent: bool) -> str:
    """As the gateway accepts one."""
    job = Job(
        id=f"an_{uuid4().hex}", size_bytes=content.stat().st_size, sha256="0" * 64, options=Options(training_consent=consent), created_ms=1
    )
    shutil.copy(content, videos.incoming(job.id))
    videos.accept(job)
    return job.id


def rewrite(videos: Videos, job_id: str, change) -> None:
    path = videos.root / "analyses" / job_id / "manifest.json"
    job = json.loads(path.read_text())
    change(job)
    path.write_text(json.dumps(job))


def dropped(store) -> dict[str, int]:
    return Store.model_validate_json((store / STORE).read_bytes()).dropped


def test_only_consented_uploads_are_harvested(videos, portrait, harvested) -> None:
    given = upload(videos, portrait, consent=True)
    refused = upload(videos, portrait, consent=False)
    silent = upload(videos, portrait, consent=True)
    rewrite(videos, silent, lambda job: job["options"].pop("training_consent"))
    without_options = upload(videos, portrait, consent=True)
    rewrite(videos, without_options, lambda job: job.pop("options"))
    broken = upload(videos, portrait, consent=True)
    (videos.root / "analyses" / broken / "manifest.json").write_text('{"options": {"training_consent": true}')
    foreign = upload(videos, portrait, consent=True)
    rewrite(videos, foreign, lambda job: job["options"].update(unheard_of=True))
    gone = upload(videos, portrait, consent=True)
    (videos.root / "analyses" / gone / "manifest.json").unlink()

    store = harvested("uploads", videos.root)
    (sample,) = read_samples(store / SAMPLES)
    assert (sample.subject, sample.label, sample.consent, sample.count) == (given, None, True, 8)
    assert sample.source == f"{given}#t1,0-875ms"
    assert dropped(store) == {"without_consent": 6}
    for job_id in (refused, silent, without_options, broken, foreign, gone):
        assert job_id not in (store / SAMPLES).read_text()


def test_without_any_consent_there_is_no_store(videos, portrait, harvested, tmp_path) -> None:
    upload(videos, portrait, consent=False)
    with pytest.raises(DataUnusable, match="'without_consent': 1"):
        harvested("uploads", videos.root)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_deleted_analysis_is_gone_from_the_next_harvest(videos, portrait, harvested) -> None:
    first, second = (upload(videos, portrait, consent=True) for _ in range(2))
    assert {sample.subject for sample in read_samples(harvested("uploads", videos.root) / SAMPLES)} == {first, second}
    videos.delete(first)
    assert {sample.subject for sample in read_samples(harvested("uploads", videos.root) / SAMPLES)} == {second}


def test_one_that_is_deleted_meanwhile_is_missing(videos, portrait) -> None:
    job_id = upload(videos, portrait, consent=True)
    (footage,) = read_uploads(videos.root, sample_fps=8, tally=Tally())
    videos.delete(job_id)
    with pytest.raises(MediaMissing):
        footage.frames()


def test_what_clients_send_need_not_be_a_video(videos, portrait, harvested, tmp_path) -> None:
    (tmp_path / "text").write_text("Lorem ipsum")
    for _ in range(3):
        upload(videos, tmp_path / "text", consent=True)
    upload(videos, portrait, consent=True)
    assert dropped(harvested("uploads", videos.root)) == {"unreadable": 3}


def test_an_empty_data_folder_is_refused(videos, harvested, tmp_path) -> None:
    with pytest.raises(DataUnusable, match="nothing to harvest; left out: nothing"):
        harvested("uploads", videos.root)
    with pytest.raises(DataUnusable, match="is not a folder"):
        harvested("uploads", tmp_path / "elsewhere")
