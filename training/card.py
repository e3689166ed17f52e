"""The model card: what a release is, what it may be used for, and where it fails (Mitchell et al., arXiv 1810.03993).

What is particular to a release comes from its `release.json` and nowhere else; what is true of every release is written here.
`python -m training.card FOLDER` writes MODEL_CARD.md beside the `release.json` of a folder.
"""

import argparse
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue, ValidationError

from shared.errors import MienError
from shared.expressions import LABELS
from shared.releases import PREPROCESS_VERSION, Release, folder_name, read
from training import in_words
from training.markdown import figures_table, percent, words_table
from training.plan import Plan
from training.record import Round
from training.report import verdict

log = logging.getLogger(__name__)

CARD: Final = "MODEL_CARD.md"

WEAK_RECALL: Final = 0.6
"""A class that is found less often than this is a known failure."""
POOR_CALIBRATION: Final = 0.1
"""So is a score that is off by more than this on average."""
FEW_SAMPLES: Final = 1000
"""A figure from fewer samples than this is called uncertain."""

OVERALL: Final = ("set", "samples", "accuracy", "mean recall", "macro-F1", "calibration error")

WHAT_IT_IS: Final = """\
A network that looks at the face, the eyes and the mouth of one person in some frames of a video and says which of seven
expressions ({labels}) the face shows, with a score for each, and which regions and frames decided.
It follows the method of Kumar, Rao and Yu (arXiv 2008.02655). It describes how a face looks. It does not know what a
person feels, thinks or intends: people smile without joy and are sad without showing it."""

INTENDED: Final = """\
- Describing the expressions in films, acted scenes and other footage whose people know and agree, for search, annotation and study.
- Research on recognising expressions, and comparing methods on public sets.
- Tools that a person uses on pictures of themselves.

Always with a person who sees the video, the scores and the explanation, and can disagree."""

FORBIDDEN: Final = """\
- Inferring emotions at work or in education. The European Union prohibits it unless it is for medical or safety reasons
  (Regulation (EU) 2024/1689, the AI Act, Article 5(1)(f)); this model is neither a medical nor a safety device.
- Decisions about a person: hiring, grades, credit, insurance, policing, borders, asylum, courts, health.
- Finding out or confirming who somebody is, or sorting people by age, sex, origin, belief or health.
- Watching people covertly, or without their agreement.
- Claims about truthfulness, character, attention, intent or mental health."""

CROPPED: Final = """\
Faces and five landmarks are found by MTCNN. The face is turned until its eyes are level, and scaled and moved until eyes and
mouth corners lie where the mean face has them; the eyes are cut from its upper and the mouth from its lower half. Each of the
three crops is {size} x {size} pixels, 8 bits per colour. Serving and training use the same code; its version is `{preprocess}`."""

CROPPED_ELSEWHERE: Final = """\
Three crops per face ({size} x {size} pixels: face, eyes, mouth) by version `{preprocess}` of the cropping code. This card was written
by a program that knows version `{known}` only; the first one is described with the code of the commit above."""

NOT_MEASURED: Final = """\
- Groups of people by age, sex or skin colour. The crops carry no such facts about the people they show, so nobody knows whether
  the model is worse for some. Do not assume that the figures hold for everybody.
- Cultures: the labels are the opinion of those who labelled the sets about what a face shows.
- What people felt. No figure here is about that.
- Anything that is not in a set above: other cameras, light, poses, covered faces, compression."""

CITE: Final = """\
Please cite the authors of the method:

    @inproceedings{kumar2020noisy,
      title     = {Noisy Student Training using Body Language Dataset Improves Facial Expression Recognition},
      author    = {Kumar, Vikas and Rao, Shivansh and Yu, Li},
      booktitle = {Computer Vision -- ECCV 2020 Workshops},
      year      = {2020},
      note      = {arXiv:2008.02655}
    }

They did not make this release and do not answer for it."""


def render(release: Release) -> str:
    """The whole card as Markdown."""
    sections = (
        ("What it is", _what(release)),
        ("Intended uses", INTENDED),
        ("Forbidden uses", FORBIDDEN),
        ("Data", _data(release)),
        ("Training", _training(release.training)),
        ("Figures", _figures(release.metrics)),
        ("Known failures", _failures(release)),
        ("Not measured", NOT_MEASURED),
        ("How faces are cropped", _cropping(release)),
        ("Citation", CITE),
    )
    return f"# Model card: {release.name}\n\n" + "\n\n".join(f"## {title}\n\n{text}" for title, text in sections) + "\n"


def write(folder: Path) -> Path:
    """Write the card of the release in a folder beside its `release.json`. Raises ReleaseError where there is none."""
    path = folder / CARD
    path.write_text(render(read(folder / "release.json")), encoding="utf-8")
    return path


def _what(release: Release) -> str:
    parent = "none: no earlier release was its teacher" if release.parent is None else folder_name(release.parent)
    facts = (
        ("Version", str(release.version)),
        ("Parent", parent),
        ("Made by", f"the training code of Mien, commit `{release.commit}`"),
        ("Network", f"grouped ResNet18 with spatial, channel and frame attention, width {release.width:g} of the paper's"),
        ("Input", f"three crops of {release.size} x {release.size} pixels per face and frame"),
        ("Timeline", f"windows of {release.sampling.window_ms} ms, one every {release.sampling.step_ms} ms"),
    )
    return WHAT_IT_IS.format(labels=", ".join(LABELS)) + "\n\n" + words_table(("", "this release"), facts)


def _data(release: Release) -> str:
    if not release.data:
        return "This release names no data."
    rows = [(data.name, data.use, f"{data.samples:,}", data.licence, f"`{data.sha256[:12]}`") for data in release.data]
    note = "The digest is the beginning of the SHA-256 of the crops that were read; `release.json` holds all of it."
    return words_table(("set", "use", "samples", "licence", "digest"), rows) + "\n\n" + note


# --- training ------------------------------------------------------------------------------------------------------


def _training(training: Mapping[str, JsonValue]) -> str:
    """The plan and its rounds in words, where they are ours, and every figure that stands beside them."""
    beside = {name: value for name, value in training.items() if not isinstance(value, dict | list)}
    settings = words_table(("setting", "value"), [(name.replace("_", " "), f"{value}") for name, value in beside.items()])
    parts = (*_in_words(training), settings if beside else "", "`release.json` holds it in full.")
    return "\n\n".join(part for part in parts if part)


def _in_words(training: Mapping[str, JsonValue]) -> tuple[str, ...]:
    try:
        plan = Plan.model_validate(training.get("plan"))
        rounds = [Round.model_validate({"measured": {}} | one) for one in _list(training.get("rounds")) if isinstance(one, dict)]
    except ValidationError:  # a release of another time has its settings side by side
        return ()
    told = (f"- Round {one.number}: {verdict(one, confidence=plan.confidence)}" for one in rounds)
    return in_words.plan(plan), "\n".join(told)


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


# --- figures -------------------------------------------------------------------------------------------------------


def _figures(metrics: Mapping[str, Mapping[str, float]]) -> str:
    if not metrics:
        return "This release was not measured. Treat it as unfit for anything."
    return f"""\
On samples that nothing was learnt from, and on other people wherever it is known who they are:

{figures_table(OVERALL, [_overall(*item) for item in metrics.items()])}

Accuracy is followed by the 95 % interval that so many samples allow. Calibration error is how far scores are from how often they are
right, on average over 15 bins of confidence.

Recall, the share of each expression that is found:

{figures_table(("expression", *metrics), [_recalls(label, metrics) for label in LABELS])}"""


def _overall(name: str, figures: Mapping[str, float]) -> tuple[str, ...]:
    accuracy = _figure(figures, "accuracy")
    if (samples := figures.get("samples")) and "accuracy" in figures:
        accuracy += f" ± {100 * _half_width(figures['accuracy'], samples):.1f}"
    rest = (_figure(figures, figure) for figure in ("mean_recall", "macro_f1", "calibration_error"))
    return name, f"{samples:,.0f}" if samples else "-", accuracy, *rest


def _half_width(accuracy: float, samples: float) -> float:
    """Of the normal approximation to the binomial's 95 % interval."""
    return 1.96 * math.sqrt(accuracy * (1 - accuracy) / samples)


def _recalls(label: str, metrics: Mapping[str, Mapping[str, float]]) -> tuple[str, ...]:
    return label, *(_figure(figures, f"recall_{label}") for figures in metrics.values())


def _figure(figures: Mapping[str, float], name: str) -> str:
    return percent(figures[name]) if name in figures else "-"


# --- failures ------------------------------------------------------------------------------------------------------


def _failures(release: Release) -> str:
    found = [f"- {failure}" for name, figures in release.metrics.items() for failure in _failures_on(name, figures)]
    return "\n\n".join(part for part in ("\n".join(found), release.notes) if part) or "None was found, which says little."


def _failures_on(name: str, figures: Mapping[str, float]) -> Iterator[str]:
    recalls = {label: figures[f"recall_{label}"] for label in LABELS if f"recall_{label}" in figures}
    weak = sorted((label for label, recall in recalls.items() if recall < WEAK_RECALL), key=recalls.__getitem__)
    if weak:
        words = ", ".join(f"{label} ({percent(recalls[label])})" for label in weak)
        yield f"On {name} it finds fewer than {percent(WEAK_RECALL)} of these expressions: {words}."
    if absent := [label for label in LABELS if label not in recalls]:
        yield f"On {name} it was not measured on {', '.join(absent)}."
    if figures.get("calibration_error", 0) > POOR_CALIBRATION:
        yield f"On {name} its scores are off by {percent(figures['calibration_error'])} on average: do not read them as chances."
    if figures.get("samples", FEW_SAMPLES) < FEW_SAMPLES:
        yield f"{name} holds {figures['samples']:,.0f} samples only: its figures, most of all those of rare classes, are uncertain."


def _cropping(release: Release) -> str:
    text = CROPPED if release.preprocess == PREPROCESS_VERSION else CROPPED_ELSEWHERE
    return text.format(size=release.size, preprocess=release.preprocess, known=PREPROCESS_VERSION)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.card", description=f"Write {CARD} beside a release.json.")
    parser.add_argument("folder", type=Path, help="folder with release.json")
    folder = parser.parse_args().folder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        log.info("%s", write(folder))
    except MienError as error:
        parser.exit(1, f"{error.title()} {error.detail}\n")


if __name__ == "__main__":
    main()
