"""Faces in a folder per class, or in FER2013's CSV."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from services.preprocess.harvest.cut import PICTURES_PER_BATCH, PIXELS_PER_BATCH, batches
from services.preprocess.harvest.decoding import picture
from services.preprocess.harvest.labels import label_of
from services.preprocess.harvest.pictures import EMOTIONS
from shared.crops import SAMPLES, STORE, Store, read_samples
from shared.errors import DataUnusable, LabelUnknown, PictureUnreadable
from shared.expressions import LABELS

PORTRAIT = data.astronaut()[40:190, 150:300]
GREY = np.asarray(Image.fromarray(PORTRAIT).convert("L").resize((48, 48)))


@pytest.fixture
def faces(tmp_path, encoded):
    """Two classes under two sets' words for them, one picture with a face in a folder below, and what is no data."""
    root = tmp_path / "train"
    for name in ("Happiness/1.png", "sad/below/2.PNG"):
        path = root / name
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(PORTRAIT))
    (root / "sad" / "Thumbs.db").write_bytes(b"not a picture")
    (root / "sad" / "._2.png").write_bytes(b"not a picture")
    (root / "__MACOSX").mkdir()
    (root / "list.txt").write_text("sad/below/2.PNG")
    return root


def test_a_folder_is_a_class(faces, harvested) -> None:
    store = harvested("pictures", faces)
    assert [(sample.label, sample.source, sample.subject) for sample in read_samples(store / SAMPLES)] == [
        ("happy", "train/Happiness/1.png", "train/Happiness/1.png"),
        ("sad", "train/sad/below/2.PNG", "train/sad/below/2.PNG"),
    ]
    frames = np.load(store / "frames.npy")
    assert np.array_equal(frames[0], frames[1])
    assert Store.model_validate_json((store / STORE).read_bytes()).dropped == {}


def test_names_are_those_below_the_data_set_wherever_it_lies(faces, harvested, monkeypatch) -> None:
    (faces / "sad" / "link.png").symlink_to(faces / "Happiness" / "1.png")
    monkeypatch.chdir(faces)
    samples = read_samples(harvested("pictures", Path()) / SAMPLES)
    assert [sample.source for sample in samples] == ["train/Happiness/1.png", "train/sad/below/2.PNG", "train/sad/link.png"]


def test_names_that_are_no_text_are_kept_as_bytes(faces, harvested) -> None:
    for name in (b"\xff.png", "a\u2028b.png".encode()):
        (faces / "Happiness").joinpath(name.decode("utf-8", "surrogateescape")).write_bytes((faces / "Happiness" / "1.png").read_bytes())
    sources = {sample.source for sample in read_samples(harvested("pictures", faces) / SAMPLES)}
    assert {"train/Happiness/\\udcff.png", "train/Happiness/a\u2028b.png"} < sources


def test_a_class_that_is_not_ours_stops_before_anything_is_cut(faces, harvested) -> None:
    (faces / "wonder").mkdir()
    with pytest.raises(LabelUnknown, match=r"'wonder' at .*/train/wonder"):
        harvested("pictures", faces)


def test_a_folder_without_classes_or_pictures_is_refused(tmp_path, harvested) -> None:
    empty = tmp_path / "empty"
    with pytest.raises(DataUnusable, match="is not a folder"):
        harvested("pictures", empty)
    empty.mkdir()
    with pytest.raises(DataUnusable, match="no folder per class"):
        harvested("pictures", empty)
    (empty / "sad").mkdir()
    with pytest.raises(DataUnusable, match="nothing to harvest"):
        harvested("pictures", empty)


@pytest.mark.parametrize(("word", "label"), [(" Anger ", "angry"), ("FEARFUL", "fear"), ("sadness", "sad"), ("neutral", "neutral")])
def test_other_words_for_the_same(word: str, label: str) -> None:
    assert label_of(word, where="here") == label


@pytest.mark.parametrize("word", ["contempt", "", "sad happy", "3"])
def test_no_label_is_guessed(word: str) -> None:
    with pytest.raises(LabelUnknown, match="here"):
        label_of(word, where="here")


# --- the CSV -------------------------------------------------------------------------------------------------------


def csv_row(emotion: object, usage: str, pixels: str | None = None) -> str:
    return f"{emotion},{pixels if pixels is not None else ' '.join(map(str, GREY.ravel()))},{usage}\n"


@pytest.fixture
def write_csv(tmp_path):
    def write(*rows: str, header: str = "emotion,pixels,Usage\n"):
        path = tmp_path / "fer2013.csv"
        path.write_text(header + "".join(rows))
        return path

    return write


def test_rows_of_one_usage(write_csv, harvested) -> None:
    path = write_csv(csv_row(3, "Training"), csv_row(0, "PublicTest"), csv_row(6, "Training"))
    samples = read_samples(harvested("pictures", path, usage="Training") / SAMPLES)
    assert [(sample.label, sample.source) for sample in samples] == [("happy", "fer2013.csv#0"), ("neutral", "fer2013.csv#2")]


def test_pixels_in_words_are_the_same_picture(write_csv, faces, harvested, encoded, tmp_path) -> None:
    (faces / "Happiness" / "1.png").write_bytes(encoded(GREY))
    from_csv = harvested("pictures", write_csv(csv_row(3, "Training")))
    from_file = harvested("pictures", faces)
    assert np.array_equal(np.load(from_csv / "frames.npy")[0], np.load(from_file / "frames.npy")[0])


def test_all_codes_are_known() -> None:
    assert sorted(EMOTIONS.values()) == list(LABELS)


def test_the_header_may_have_spaces_and_no_usage(write_csv, harvested) -> None:
    path = write_csv(f"4,{'9 ' * 2304}\n", header="emotion, pixels\n")
    (sample,) = read_samples(harvested("pictures", path) / SAMPLES)
    assert (sample.label, sample.aligned) == ("sad", False)


@pytest.mark.parametrize("pixels", ["", "1 2 3", "256 0 0 0", "0 0 0 x", "-1 0 0 0"])
def test_rows_that_are_no_picture_are_counted(pixels: str, write_csv, harvested) -> None:
    path = write_csv(csv_row(3, "Training"), csv_row(3, "Training", pixels))
    with pytest.raises(PictureUnreadable, match="1 of 2"):
        harvested("pictures", path)
    store = harvested("pictures", path, most_unreadable=0.5)
    assert Store.model_validate_json((store / STORE).read_bytes()).dropped == {"unreadable": 1}


def test_other_tables_are_refused(write_csv, harvested, tmp_path) -> None:
    with pytest.raises(LabelUnknown, match=r"emotion '7' at fer2013\.csv#1"):
        harvested("pictures", write_csv(csv_row(3, "Training"), csv_row(7, "Training")))
    with pytest.raises(DataUnusable, match="nothing to harvest"):
        harvested("pictures", write_csv(csv_row(3, "Training")), usage="PrivateTest")
    with pytest.raises(DataUnusable, match="no column emotion"):
        harvested("pictures", write_csv(csv_row(3, "Training"), header="label,pixels,Usage\n"))
    with pytest.raises(DataUnusable, match="not there"):
        harvested("pictures", tmp_path / "other.csv")
    (tmp_path / "binary.csv").write_bytes(b"emotion,pixels\n\xff\xfe\n")
    with pytest.raises(DataUnusable, match=r"binary\.csv"):
        harvested("pictures", tmp_path / "binary.csv")


# --- decoding ------------------------------------------------------------------------------------------------------


def test_a_picture_is_held_upright() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PORTRAIT[:, :100]).save(file, "PNG", exif=exif)
    assert np.array_equal(picture(file.getvalue()), np.rot90(PORTRAIT[:, :100], -1))


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[: len(content) // 2],
        lambda _: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        lambda content: content[:16] + (99_999).to_bytes(4, "big") * 2 + content[24:],
    ],
    ids=["empty", "cut off", "of a format that runs programs", "a bomb"],
)
def test_what_is_no_picture_is_unreadable(damage, encoded) -> None:
    with pytest.raises(PictureUnreadable):
        picture(damage(encoded(PORTRAIT)))


def test_pixels_of_sixteen_bits_are_not_cut_off_at_white(encoded) -> None:
    with pytest.raises(PictureUnreadable, match="not of 8 bits"):
        picture(encoded(GREY.astype(np.uint16) * 256))


def test_a_batch_is_bounded_in_pictures_and_in_pixels() -> None:
    small, large = np.zeros((8, 8, 3), np.uint8), np.broadcast_to(np.uint8(0), (PIXELS_PER_BATCH // 2, 1, 3))
    assert [len(batch) for batch in batches((None, small) for _ in range(PICTURES_PER_BATCH + 3))] == [PICTURES_PER_BATCH, 3]
    assert [len(batch) for batch in batches((None, large) for _ in range(5))] == [2, 2, 1]


@pytest.mark.parametrize(("enhance", "brighter"), [("auto", True), ("always", True), ("never", False)])
def test_dark_pictures_are_brightened_unless_that_is_not_wanted(
    harvested: Callable[..., Path], tmp_path: Path, encoded: Callable[[np.ndarray], bytes], enhance: str, brighter: bool
) -> None:
    folder = tmp_path / "faces" / "happy"
    folder.mkdir(parents=True)
    dark = (np.asarray(data.astronaut())[0:200, 130:330] * 0.15).astype(np.uint8)
    (folder / "one.png").write_bytes(encoded(dark))
    store = harvested("pictures", tmp_path / "faces", enhance=enhance)
    assert (np.load(store / "frames.npy").mean() > 1.5 * dark.mean()) is np.bool_(brighter)
    assert Store.model_validate_json((store / "store.json").read_bytes()).enhance == enhance
