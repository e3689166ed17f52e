"""What travels from training to the worker to see in the dark with: one TorchScript file, and the words that go with it.

    services/preprocess/light/enlightener/
      generator.pt        TorchScript, in half precision: uint8 RGB (B, 3, H, W) with H and W multiples of STRIDE
                          -> fp32 RGB (B, 3, H, W) from 0 to 1: the same pictures as if there had been light
      enlightener.json    this contract; names the sha256 of the other

A file of TorchScript can hold code: this one is taken only as the digest beside it says, from the folder of the worker's own code.
"""

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from shared.errors import ModelContractMismatch, ModelDigestMismatch, ReleaseError
from shared.jobs import Contract
from shared.releases import DataSet, Sha256, file_sha256

GENERATOR: Final = "generator.pt"
MANIFEST: Final = "enlightener.json"

STRIDE: Final = 16
"""What sides must be multiples of: the generator halves them four times."""

MAX_BYTES: Final = 4 * 2**20


class Enlightener(Contract):
    """`enlightener.json`."""

    width: Annotated[float, Field(gt=0, le=1)]
    """Channel multiplier of the generator; 1.0 is the paper's."""
    parameters: Annotated[int, Field(gt=0)]
    steps: Annotated[int, Field(gt=0)]
    """Batches that it learnt from."""
    minutes: Annotated[float, Field(ge=0)]
    hardware: str
    features: str
    """Whose features the self feature preserving loss compared."""
    data: tuple[DataSet, ...]
    """What it was trained and measured on; no person is in two of them."""
    metrics: dict[str, float]
    """On people it has not seen, darkened by known amounts."""
    commit: str
    """Git commit of the code that trained it."""
    notes: str
    """Known limits, in plain words."""
    sha256: Sha256
    """Of generator.pt."""


def read(folder: Path) -> Enlightener:
    """The words of an enlightener whose generator is the one that they name.

    Raises ReleaseError where either file is missing, ModelContractMismatch for words that are not these, and ModelDigestMismatch.
    """
    try:
        enlightener = Enlightener.model_validate_json((folder / MANIFEST).read_bytes())
        actual = file_sha256(folder / GENERATOR)
    except FileNotFoundError as error:
        raise ReleaseError(f"no {Path(error.filename).name} in {folder.name}") from None
    except ValidationError as error:
        raise ModelContractMismatch(f"{MANIFEST}: {error}") from error
    if actual != enlightener.sha256:
        raise ModelDigestMismatch(GENERATOR, expected=enlightener.sha256, actual=actual)
    return enlightener
