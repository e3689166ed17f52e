"""What a publication must be: whole or absent, the same twice, and never built from weights that are not the network's."""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared import releases
from shared.errors import ModelContractMismatch, ModelDigestMismatch, ModelVersionUnavailable, ReleaseError
from training.export import WEIGHTS, export


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def edit_release(folder: Path, **values: object) -> None:
    path = folder / "release.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def listing(models: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(models)): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in models.rglob("*")}


def test_the_folder_holds_what_the_contract_says(random_release: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    folder = export(random_release, models)
    assert folder == models / "mien_000001"
    assert sorted(path.name for path in models.iterdir()) == [
        ".lock",
        "history.json",
        "mien_000001",
        "mien_000001_clip",
        "mien_000001_frames",
    ]
    assert releases.published(models) == [1]
    release = releases.load(models, 1)
    inside = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert inside == {"release.json", *release.files}
    assert set(release.files) == {WEIGHTS, "frames/config.pbtxt", "frames/1/model.pt", "clip/config.pbtxt", "clip/1/model.pt"}


def test_links_are_relative_so_the_repository_can_be_mounted_anywhere(random_release: Path, tmp_path: Path) -> None:
    export(random_release, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    for graph in releases.GRAPHS:
        link = tmp_path / "there" / releases.model_name(1, graph)
        assert link.readlink() == Path("mien_000001") / graph
        assert (link / "1" / "model.pt").is_file()


def test_configs_name_the_tensors_of_the_contract_and_no_device(random_release: Path, tmp_path: Path) -> None:
    folder = export(random_release, tmp_path)
    frames, clip = ((folder / graph / "config.pbtxt").read_text() for graph in releases.GRAPHS)
    release = releases.load(tmp_path, 1)
    size, features = release.size, release.feature_size
    maps = f"[3, {size // 8}, {size // 8}]"
    assert dims(frames) == {
        "faces__0": f"[9, {size}, {size}]",
        "features__0": f"[{features}]",
        "region_weights__1": "[3]",
        "spatial_maps__2": maps,
    }
    assert dims(clip) == {"features__0": f"[-1, {features}]", "mask__1": "[-1]", "logits__0": "[7]", "frame_weights__1": "[-1]"}
    for config in (frames, clip):
        assert 'backend: "pytorch"' in config
        assert "dynamic_batching" in config
        assert "model_warmup" in config
        assert not re.search("KIND_|EXECUTION_ENV|parameters", config)


def dims(config: str) -> dict[str, str]:
    """The tensors that a config declares, the warm-up left out."""
    return dict(re.findall(r'name: "(\w+)" data_type: \w+ dims: (\[.*?\])', config))


def test_exporting_twice_changes_nothing(random_release: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    export(random_release, models)
    before = listing(models)
    export(random_release, models)
    assert listing(models) == before


def test_exporting_again_restores_links_that_a_crash_left_out(random_release: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    export(random_release, models)
    (models / "mien_000001_clip").unlink()
    export(random_release, models)
    assert (models / "mien_000001_clip" / "config.pbtxt").is_file()


@pytest.mark.parametrize("what", ["weights", "notes"])
def test_a_published_release_is_never_overwritten(random_release: Path, tmp_path: Path, what: str) -> None:
    models = tmp_path / "models"
    export(random_release, models)
    before = listing(models)
    if what == "weights":
        edit_weights(random_release, lambda tensors: tensors["clip.output.bias"].add_(1))
    else:
        edit_release(random_release, notes="another story")
    with pytest.raises(ReleaseError, match="never overwritten"):
        export(random_release, models)
    assert listing(models) == before


def test_a_damaged_publication_is_not_taken_for_the_same(random_release: Path, tmp_path: Path) -> None:
    folder = export(random_release, tmp_path / "models")
    with (folder / "clip" / "1" / "model.pt").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelDigestMismatch):
        export(random_release, tmp_path / "models")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("clip.output.bias"), "clip.output.bias"),
        (lambda tensors: tensors.update({"encoder.extra": torch.zeros(1)}), "encoder.extra"),
        (lambda tensors: tensors.update({"clip.output.bias": torch.zeros(8)}), "size mismatch"),
        (lambda tensors: tensors["encoder.reduce.bias"].fill_(float("nan")), "encoder.reduce.bias"),
        (lambda tensors: tensors["clip.output.weight"][0, 0].fill_(float("inf")), "clip.output.weight"),
    ],
    ids=["missing", "unexpected", "shape", "nan", "infinity"],
)
def test_weights_that_are_not_the_networks_are_refused(random_release: Path, tmp_path: Path, change, said: str) -> None:
    edit_weights(random_release, change)
    with pytest.raises(ModelContractMismatch, match=said):
        export(random_release, tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").iterdir()] == [".lock"]


def test_a_file_that_is_not_safetensors_is_refused(random_release: Path, tmp_path: Path) -> None:
    (random_release / WEIGHTS).write_bytes(b"not tensors")
    with pytest.raises(ModelContractMismatch, match=WEIGHTS):
        export(random_release, tmp_path / "models")


def test_a_release_of_another_width_is_refused(random_release: Path, tmp_path: Path) -> None:
    edit_release(random_release, width=1.0)
    with pytest.raises(ModelContractMismatch, match=r"width 1\.0"):
        export(random_release, tmp_path / "models")


def test_the_digest_in_release_json_is_checked(random_release: Path, tmp_path: Path) -> None:
    edit_release(random_release, files={WEIGHTS: "0" * 64})
    with pytest.raises(ModelDigestMismatch):
        export(random_release, tmp_path / "models")


def test_a_missing_file_is_named(random_release: Path, tmp_path: Path) -> None:
    (random_release / WEIGHTS).unlink()
    with pytest.raises(ReleaseError, match=WEIGHTS):
        export(random_release, tmp_path / "models")
    (random_release / "release.json").unlink()
    with pytest.raises(ModelVersionUnavailable):
        export(random_release, tmp_path / "models")


def test_half_precision_weights_become_single_precision_graphs(random_release: Path, tmp_path: Path) -> None:
    edit_weights(random_release, lambda tensors: tensors.update({name: t.half() for name, t in tensors.items() if t.is_floating_point()}))
    folder = export(random_release, tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.load` is deprecated")
        graph = torch.jit.load(str(folder / "clip" / "1" / "model.pt"))
    logits, _ = graph(torch.zeros(1, 2, releases.load(tmp_path, 1).feature_size), torch.ones(1, 2))
    assert logits.dtype == torch.float32
