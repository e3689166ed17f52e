"""Teaching frame attention, which pictures alone cannot teach: on a clip of one frame it always weighs 1."""

import torch
from torch import Tensor, nn

from shared.errors import DataUnusable
from shared.expressions import LABELS
from training.datasets import Clips
from training.network import FrameEncoder, Network

CLIPS = 256
FRAMES = 6
LEAST_APEX_SHARE = 0.25
LEARNING_RATE = 1e-3


def fit_frame_attention(network: Network, pictures: Clips, *, steps: int, seed: int) -> None:
    """Teach frame attention which frames decide, with everything else frozen.

    Clips are put together from the features of labelled pictures: frames of one expression among neutral frames, as in acted sequences
    from neutral to apex, labelled with the expression. Raises DataUnusable without neutral faces.
    """
    generator = torch.Generator().manual_seed(seed)
    features = encode(network.encoder, pictures)
    network.cpu()  # the rest is small
    rows_of = {int(label): torch.nonzero(pictures.labels == label).flatten() for label in pictures.labels.unique()}
    neutral = rows_of.get(LABELS.index("neutral"))
    if neutral is None:
        raise DataUnusable("frame attention needs neutral faces")
    network.eval()
    optimiser = torch.optim.Adam(network.clip.frame.parameters(), lr=LEARNING_RATE)
    for _ in range(steps):
        labels = draw(torch.tensor(list(rows_of)), (CLIPS,), generator)
        apex = torch.stack([draw(rows_of[label], (FRAMES,), generator) for label in labels.tolist()])
        calm = draw(neutral, (CLIPS, FRAMES), generator)
        is_apex = some_frames(generator)
        logits, _ = network.clip(features[torch.where(is_apex, apex, calm)], torch.ones(CLIPS, FRAMES))
        loss = nn.functional.cross_entropy(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def draw(values: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return values[torch.randint(len(values), shape, generator=generator)]


def some_frames(generator: torch.Generator) -> Tensor:
    """Which frames of each clip show its expression: bool (CLIPS, FRAMES), at least one in a clip."""
    share = LEAST_APEX_SHARE + (1 - LEAST_APEX_SHARE) * torch.rand(CLIPS, 1, generator=generator)
    chosen = torch.rand(CLIPS, FRAMES, generator=generator) < share
    chosen[:, 0] = True
    return chosen


@torch.no_grad()
def encode(encoder: FrameEncoder, pictures: Clips, *, batch: int = 256) -> Tensor:
    """Features (N, F) of the first frame of every clip, without noise."""
    encoder.eval()
    device = encoder.reduce.weight.device
    groups = pictures.frames[pictures.first].split(batch)
    return torch.cat([encoder(group.to(device).contiguous(memory_format=torch.channels_last))[0].cpu() for group in groups])
