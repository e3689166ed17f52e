"""What is left to do with a fitted network before it counts, in a round of a run as in a cell of a table."""

from training.attention import fit_frame_attention
from training.datasets import Clips, joined
from training.network import Network
from training.weights import round_to_half


def finish(network: Network, *, lessons: list[Clips], labelled: list[Clips], attention_steps: int, seed: int) -> None:
    """In place: teach frame attention from what people labelled where `lessons`, all that the network learnt from, were pictures, which
    cannot teach it; and round the weights to those that would be shipped. No steps leave attention as it is.
    """
    if attention_steps and network.design.frame_attention and not has_clips(lessons):
        fit_frame_attention(network, joined(labelled), steps=attention_steps, seed=seed)
    round_to_half(network)


def has_clips(parts: list[Clips]) -> bool:
    """Whether any clip has several frames, so that there is something for frame attention to weigh."""
    return any(int(part.count.max()) > 1 for part in parts)
