"""Bars in lanes, as an SVG that shows in light and in dark: written by hand, since it is a page of rectangles."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WIDTH, LABEL, RIGHT, LANE, BAR, GROUP = 900, 150, 60, 26, 18, 34
LEGEND, LETTER = 20, 7.5
COLOURS: Final = ("#332288", "#88ccee", "#44aa99", "#ddcc77", "#cc6677", "#882255", "#117733", "#999933", "#aa4499")
"""Paul Tol's muted scheme: colour-blind people can tell them apart."""
STYLE: Final = "text{font:13px sans-serif;fill:#222}@media(prefers-color-scheme:dark){text{fill:#ddd}.back{fill:#1b1b1b}}.back{fill:#fff}"


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One row: parts one after another."""

    name: str
    parts: Mapping[str, float]


def bars(groups: Mapping[str, Sequence[Lane]], *, title: str, unit: str) -> str:
    """The lanes of each group under its name, all to one scale. A part has the same colour wherever it stands; there are as many parts as
    `COLOURS` at most.
    """
    names = list(dict.fromkeys(part for lanes in groups.values() for lane in lanes for part in lane.parts))
    colours = dict(zip(names, COLOURS[: len(names)], strict=True))
    places = legend_places(names)
    longest = max(sum(lane.parts.values()) for lanes in groups.values() for lane in lanes)
    top = max(y for _, y in places) + LEGEND
    height = top + sum(GROUP + LANE * len(lanes) for lanes in groups.values()) + 16
    per_unit = (WIDTH - LABEL - RIGHT) / longest
    body = [text(16, 24, title), *legend(colours, places), *rows(groups, colours, top=top, per_unit=per_unit, unit=unit)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"><title>{escape(title)}</title>'
        f'<style>{STYLE}</style><rect class="back" width="{WIDTH}" height="{height}"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def legend_places(names: Sequence[str]) -> list[tuple[int, int]]:
    """Left and top of each name's square, row after row."""
    places, x, y = [], 16, 38
    for name in names:
        width = 34 + round(LETTER * len(name))
        if x + width > WIDTH:
            x, y = 16, y + LEGEND
        places.append((x, y))
        x += width
    return places


def legend(colours: Mapping[str, str], places: Sequence[tuple[int, int]]) -> Iterator[str]:
    for (name, colour), (x, y) in zip(colours.items(), places, strict=True):
        yield f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/>{text(x + 17, y + 11, name)}'


def rows(groups: Mapping[str, Sequence[Lane]], colours: Mapping[str, str], *, top: int, per_unit: float, unit: str) -> Iterator[str]:
    y = top
    for group, lanes in groups.items():
        yield text(16, y + GROUP - 10, group, weight="bold")
        y += GROUP
        for lane in lanes:
            yield from row(lane, colours, y=y, per_unit=per_unit, unit=unit)
            y += LANE


def row(lane: Lane, colours: Mapping[str, str], *, y: int, per_unit: float, unit: str) -> Iterator[str]:
    yield text(16, y + 14, lane.name)
    x = float(LABEL)
    for name, value in lane.parts.items():
        width = value * per_unit
        told = escape(f"{lane.name}, {name}: {value:.1f} {unit}")
        yield f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colours[name]}"><title>{told}</title></rect>'
        x += width
    yield text(round(x) + 6, y + 14, f"{sum(lane.parts.values()):.1f}")


def text(x: int, y: int, words: str, *, weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" font-weight="{weight}">{escape(words)}</text>'
