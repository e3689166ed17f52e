"""Bars in lanes, as an SVG that shows in light and in dark: written by hand, since it is a page of rectangles."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WIDTH, LABEL, RIGHT, LANE, BAR, TOP, GROUP = 900, 190, 70, 26, 18, 64, 34
COLOURS: Final = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb")
"""Paul Tol's bright scheme: colour-blind people can tell them apart."""
STYLE: Final = "text{font:13px sans-serif;fill:#222}@media(prefers-color-scheme:dark){text{fill:#ddd}.back{fill:#1b1b1b}}.back{fill:#fff}"


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One row: parts one after another."""

    name: str
    parts: Mapping[str, float]


def bars(groups: Mapping[str, Sequence[Lane]], *, title: str, unit: str) -> str:
    """The lanes of each group under its name, all to one scale. A part has the same colour wherever it stands."""
    names = list(dict.fromkeys(part for lanes in groups.values() for lane in lanes for part in lane.parts))
    colours = dict(zip(names, COLOURS * (1 + len(names) // len(COLOURS)), strict=False))
    longest = max(sum(lane.parts.values()) for lanes in groups.values() for lane in lanes)
    height = TOP + sum(GROUP + LANE * len(lanes) for lanes in groups.values()) + 16
    body = [text(16, 24, title), *legend(colours), *rows(groups, colours, per_unit=(WIDTH - LABEL - RIGHT) / longest, unit=unit)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"><title>{escape(title)}</title>'
        f'<style>{STYLE}</style><rect class="back" width="{WIDTH}" height="{height}"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def legend(colours: Mapping[str, str]) -> Iterator[str]:
    x = 16
    for name, colour in colours.items():
        yield f'<rect x="{x}" y="38" width="12" height="12" fill="{colour}"/>{text(x + 17, 49, name)}'
        x += 32 + 8 * len(name)


def rows(groups: Mapping[str, Sequence[Lane]], colours: Mapping[str, str], *, per_unit: float, unit: str) -> Iterator[str]:
    y = TOP
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
