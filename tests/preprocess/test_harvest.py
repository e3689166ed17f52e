"""Labelled pictures in, a crop store out that training can read."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image
from skimage import data

from services.preprocess.harvest import harvest
from services.preprocess.landmarks import FacePictures
from services.preprocess.regions import face_tensor
from shared.crops import SAMPLES, read_samples
from shared.expressions import LABELS
from training.datasets import read_faces

PORTRAIT = data.astronaut()[40:190, 150:300]


def encoded(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A labelled face, a face of nobody in particular, and a labelled picture in which there is none."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    table = pa.table(
        {
            "image": [encoded(PORTRAIT), encoded(PORTRAIT), encoded(noise)],
            "label": ["happy", None, "sad"],
            "subject": ["Eileen Collins", "Eileen Collins", ""],
        }
    )
    path = tmp_path / "faces.parquet"
    parquet.write_table(table, path)
    return path


def test_training_reads_what_serving_would_cut(pictures: Path, tmp_path: Path) -> None:
    harvest(pictures, name="faces", licence="public domain", size=48, out=tmp_path / "crops")
    (landmarks,) = FacePictures().landmarks([PORTRAIT])
    assert landmarks is not None
    stored = np.load(tmp_path / "crops" / "frames.npy")
    assert np.array_equal(stored[0], face_tensor(PORTRAIT, landmarks, size=48))
    faces = read_faces(tmp_path / "crops")
    assert faces.labels.tolist() == [LABELS.index("happy"), LABELS.index("sad")]
    assert (faces.name, faces.licence, faces.size) == ("faces", "public domain", 48)


def test_every_sample_says_where_it_is_from(pictures: Path, tmp_path: Path) -> None:
    harvest(pictures, name="faces", licence="public domain", size=48, out=tmp_path / "crops")
    first, second, third = read_samples(tmp_path / "crops" / SAMPLES)
    assert (first.source, first.subject, first.aligned) == ("faces.parquet#0", "Eileen Collins", True)
    assert second.label is None
    assert (third.subject, third.aligned) == ("faces.parquet#2", False), "nobody known is a subject of its own"


def test_a_store_is_never_written_over(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "crops").mkdir()
    with pytest.raises(FileExistsError):
        harvest(pictures, name="faces", licence="public domain", size=48, out=tmp_path / "crops")
