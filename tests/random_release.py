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


def write_random_release(folder: Path, *, version: int = 1, size: int = 96, width: float = 0.25, seed: int = SEED) -> Path:
    # Imported late: most tests need no torch, and it takes seconds.
    import torch
    from safetensors.torch import save_file

    from training.network import Network
    from training.plan import Design

    folder.mkdir(parents=True)
    torch.manual_seed(SEED)
    network = Network(Design(width=width))
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / "weights.safetensors")
    release = Release(
        version=version,
        size=size,
        width=width,
        feature_size=network.encoder.feature_size,
        training={"seed": seed, "epochs": 0},
        metrics={},
        data=(),
        commit="none",
        notes="Random weights, for tests.",
    )
    (folder / "release.json").write_text(release.model_dump_json(indent=1))
    return folder
