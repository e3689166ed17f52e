"""What data sets call our seven expressions."""

from typing import Final, get_args

from shared.errors import LabelUnknown
from shared.results import Label

SYNONYMS: Final[dict[str, Label]] = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "happiness": "happy",
    "joy": "happy",
    "neutrality": "neutral",
    "sadness": "sad",
    "surprised": "surprise",
}
"""Other words for the same, and nothing more: contempt, for one, is none of the seven."""

KNOWN: Final[dict[str, Label]] = {**{label: label for label in get_args(Label)}, **SYNONYMS}


def label_of(word: str, *, where: str) -> Label:
    """The label that a data set's own word means, whatever its case. Raises LabelUnknown, which names the word and where it stands."""
    try:
        return KNOWN[word.strip().casefold()]
    except KeyError:
        raise LabelUnknown(f"{word!r} at {where}; known are {', '.join(KNOWN)}") from None
