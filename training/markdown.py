"""The little Markdown that training writes for people: tables and percentages."""

from collections.abc import Iterable, Sequence


def figures_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table: its first column to the left, all others to the right, as figures are read."""
    return "\n".join(_row(cells) for cells in (header, ["---", *("---:" for _ in header[1:])], *rows))


def words_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table of texts, all to the left."""
    return "\n".join(_row(cells) for cells in (header, ["---" for _ in header], *rows))


def percent(share: float) -> str:
    """A fraction as `62.1 %`."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """A difference of two fractions in percentage points with its sign: `+1.3`."""
    return f"{100 * share:+.1f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    """Names of sets and licences are other people's words: a bar or a line break in one would break the table."""
    return " ".join(text.split()).replace("|", "\\|")
