"""Everything a person decides about a training run, as one frozen document: `plan.json`.

The command line, the REST service and the run's folder all hold the same document; a run is resumed only by an equal one.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from shared.jobs import Contract

Strength = Annotated[float, Field(ge=0, le=1)]


class Source(Contract):
    """A crop store to learn from."""

    store: Path
    """The store's folder."""
    repeat: Annotated[int, Field(ge=1, le=100)] = 1
    """How often each of its samples counts, to weigh a small good set against a large noisy one."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of its subjects that nothing is learnt from; they are measured on instead."""


class NoiseStrengths(Contract):
    """What the student is made to cope with (section 3.3 of the paper). Zero turns one off, but for sharpness."""

    dropout: Strength = 0.5
    """Of a clip's feature, before the last layer."""
    brightness: Strength = 0.4
    """Factors from 1 - this to 1 + this."""
    contrast: Strength = 0.4
    """Factors as for brightness."""
    sharpness: Annotated[float, Field(ge=0, le=10)] = 2.0
    """Factor for every second group; 1 leaves the picture as it is, 0 blurs it."""
    translation: Strength = 0.08
    """Fraction of the crop's side."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Stands for the landmarks' own error, as `scale` does."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.12
    """Factors from 1 - this to 1 + this."""
    flip: Strength = 0.5
    """Chance of a horizontal flip."""
    erasing: Strength = 0.0
    """Chance that a rectangle of each region is hidden."""
    groups_per_batch: Annotated[int, Field(ge=1)] = 16
    """A batch is cut into this many groups of clips that share a draw: one transform per clip would cost more than the network.
    Processes take whole groups, so a multiple of their number."""


SILENCE = NoiseStrengths(dropout=0, brightness=0, contrast=0, sharpness=1, translation=0, rotation_degrees=0, scale=0, flip=0)
"""No noise at all: for the ablation."""


class Design(Contract):
    """Which parts of the network there are; the paper's tables take some out."""

    width: Annotated[float, Field(gt=0, le=2)] = 0.25
    """Channel multiplier; 1.0 is the paper's."""
    regions: Annotated[tuple[str, ...], Field(min_length=1)] = ("face", "eyes", "mouth")
    """What the network sees; the others are left out."""
    spatial_attention: bool = True
    """Otherwise a mean over positions."""
    channel_attention: bool = True
    """Otherwise a mean over regions."""
    frame_attention: bool = True
    """Otherwise a mean over frames."""


class Stretch(Contract):
    """Some epochs at one size: small crops first teach most of what large ones would, at a fraction of the time."""

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    """Passes over the data."""
    size: Annotated[int, Field(ge=32, multiple_of=8)]
    """Side of the crops in pixels. The last stretch has the store's own size."""


class Recipe(Contract):
    """How one network is fitted, beside noise and data."""

    design: Design = Design()
    """Which parts the network has, and how wide it is."""
    stretches: Annotated[tuple[Stretch, ...], Field(min_length=1)] = (Stretch(epochs=30, size=64),)
    """One after the other, within one schedule."""
    from_teacher: bool = False
    """Whether a student of its teacher's design begins with its teacher's weights. Noisy Student begins anew; this is for short rounds."""
    batch: Annotated[int, Field(ge=2)] = 128
    """Clips per step, over all processes."""
    frames: Annotated[int, Field(ge=1)] = 8
    """Frames of a longer clip that one step looks at, drawn anew each time."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    """Of AdamW at its highest, after the warm-up; from there it falls along half a cosine."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Of AdamW."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    """While the learning rate rises to its highest."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Of labels that people gave; a teacher's are soft already."""
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Of the exponential moving average of the weights, which is what is evaluated and released."""
    balance: Strength = 0.5
    """0 draws labelled clips as they come, 1 draws every class equally often; 0.5 weighs by one over the root of the class's size."""
    attention_steps: Annotated[int, Field(ge=0)] = 200
    """Steps that teach frame attention where the data holds pictures only."""
    bfloat16: bool = True
    """Whether convolutions compute in half of fp32's bits."""
    compile: bool = False
    """Whether torch.compile is used."""

    @property
    def epochs(self) -> int:
        return sum(stretch.epochs for stretch in self.stretches)


class PseudoLabelling(Contract):
    """How the teacher's opinion of unlabelled clips becomes lessons (Xie et al., arXiv 1911.04252)."""

    threshold: Strength = 0.5
    """Least score of the likeliest label for a clip to be learnt from."""
    balanced: bool = True
    """Whether classes are evened out; the paper finds that it matters, and its table compares."""
    per_class: Annotated[int | None, Field(ge=1)] = None
    """Clips per class after balancing; null takes the mean size of the classes that have any."""
    most_repeats: Annotated[int, Field(ge=1)] = 5
    """How often a clip of a small class may be repeated to fill it up."""
    soften_labels: Strength = 0.0
    """Share of the teacher's opinion in the labels that people gave, for sets whose labels are noisy."""


class Plan(Contract):
    """A whole run: a teacher, then rounds of students."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    """For people; nothing is found by it."""
    version: Annotated[int, Field(ge=1, le=999_999)] | None = None
    """Of the candidate. Null takes one above the teacher's release, or 1; publishing takes only what is above all earlier versions."""
    labelled: Annotated[tuple[Source, ...], Field(min_length=1)]
    """What people labelled: every network learns from it."""
    unlabelled: tuple[Source, ...] = ()
    """What students learn from with their teacher's labels. Without any, students learn from people's labels alone."""
    frozen: tuple[Path, ...] = ()
    """Crop stores that are only measured on. With what `labelled` holds out, they decide which network is better."""
    teacher: Path | None = None
    """A folder of weights to begin with, such as the champion's. Null trains the first teacher on what is labelled."""
    teacher_recipe: Recipe = Recipe()
    """Of the first teacher, where it is to be trained."""
    student_recipes: Annotated[tuple[Recipe, ...], Field(min_length=1)] = (Recipe(),)
    """One per round; further rounds use the last. A student is never narrower than its teacher."""
    noise: NoiseStrengths = NoiseStrengths()
    """While students are fitted."""
    teacher_noise: NoiseStrengths = NoiseStrengths()
    """While the first teacher is fitted; it labels without any. Noisy Student fits it with noise, too: the loss in step 1 of its algorithm
    is that of the noised network, and only step 2 asks for one that is not (arXiv 1911.04252). What is at hand of the paper here names
    noise for students only (arXiv 2008.02655): `SILENCE` is that reading."""
    pseudo_labelling: PseudoLabelling = PseudoLabelling()
    """How the teacher's opinion becomes lessons."""
    rounds: Annotated[int, Field(ge=0, le=100)] = 2
    """At most so many; it stops at the first round whose student does not beat the champion."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    """Of the bootstrap interval around the gain in macro-F1 that a student must keep above zero."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """A run with the same plan, data and code gives the same losses."""
    notes: str = ""
    """Known limits, in plain words; the model card repeats them."""
