"""Signed candidates that tests publish: networks that know painted faces, or nothing at all."""

from pathlib import Path

import torch

from shared.releases import Release
from shared.signatures import Signer
from tests.painted import SIZE, painted_clips
from training.candidate import write_candidate
from training.datasets import Clips
from training.gate import Contestant
from training.network import Network
from training.plan import Design

SIGNER = Signer.generate()
STRANGER = Signer.generate()


def contestant(version: int, *, width: float = 0.125, seed: int = 1, knows: Clips | None = None, **told: object) -> Contestant:
    """A network that knows painted faces, or other `knows`: random features, and the last layer that fits them best."""
    torch.manual_seed(seed)
    network = Network(Design(width=width)).eval()
    fit_last_layer(network, knows or painted_clips(210, seed=9))
    release = Release(
        **{
            "version": version,
            "size": SIZE,
            "width": width,
            "feature_size": network.encoder.feature_size,
            "training": {},
            "metrics": {},
            "data": (),
            "commit": "none",
            "notes": "Knows painted faces, for tests.",
            **told,
        }
    )
    return Contestant(release=release, network=network)


@torch.no_grad()
def fit_last_layer(network: Network, clips: Clips) -> None:
    """Least squares from features of clips of one frame to their labels."""
    features = network.encoder(clips.frames)[0]
    extended = torch.cat([features, torch.ones(len(features), 1)], dim=1).double()
    solution = torch.linalg.lstsq(extended, 4 * clips.targets.double(), driver="gelsd").solution.float()
    network.clip.output.weight.copy_(solution[:-1].T)
    network.clip.output.bias.copy_(solution[-1])


def write_signed(folder: Path, what: Contestant, *, signer: Signer | None = SIGNER) -> Path:
    """The candidate as a run leaves it, and signed."""
    write_candidate(what.network, what.release, folder)
    if signer is not None:
        signer.sign(folder)
    return folder
