"""A release that every part accepts and that knows nothing: the network's random weights, small and quick to make."""

from pathlib import Path

import pytest

from shared.releases import Release

SEED = 7


@pytest.fixture
def random_release(tmp_path: Path) -> Path:
    """A weights folder, as training leaves it under training/releases."""
    return write_random_release(tmp_path / "releases" / "000001")


@pytest.fixture(scope="session")
def shared_random_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, once for the whole run; not to be written to."""
    return write_random_release(tmp_path_factory.mktemp("releases") / "000001")


def write_random_release(folder: Path, *, size: int = 96, width: float = 0.25) -> Path:
    # Imported late: most tests need no torch, and it takes seconds.
    import torch
    from safetensors.torch import save_file
    from torch import nn

    from training.network import ClipClassifier, FrameEncoder

    folder.mkdir(parents=True)
    torch.manual_seed(SEED)
    encoder = FrameEncoder(width=width)
    networks = nn.ModuleDict({"encoder": encoder, "clip": ClipClassifier(encoder.feature_size)})
    save_file({name: tensor.contiguous() for name, tensor in networks.state_dict().items()}, folder / "weights.safetensors")
    release = Release(
        version=1,
        size=size,
        width=width,
        feature_size=encoder.feature_size,
        training={"seed": SEED, "epochs": 0},
        metrics={},
        data=(),
        commit="none",
        notes="Random weights, for tests.",
    )
    (folder / "release.json").write_text(release.model_dump_json(indent=1))
    return folder
