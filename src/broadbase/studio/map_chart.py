"""The points of a map as SVG: a colour and a shape for each label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from broadbase.studio.map_data import Item, Points

WIDTH, HEIGHT, MARGIN = 800, 560, 14
SHAPES = (  # paths around the point, about 8 units wide
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",  # circle
    "m-4 -4h8v8h-8z",  # square
    "m0 -5l5 8.5h-10z",  # triangle
    "m0 -5.5l5 5.5l-5 5.5l-5 -5.5z",  # diamond
    "m-1.5 -5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",  # plus
    "m0 5l5 -8.5h-10z",  # triangle, the point below
)
COLOURS = 6  # classes k0 to k5 of the style sheet
OTHERS, NONE = "other labels", "no label"
NAMED = 11  # labels that have a sign of their own


@dataclass(frozen=True)
class Sign:
    """How the points of a label are drawn."""

    label: str
    count: int
    shape: str
    colour: str


@dataclass(frozen=True)
class Dot:
    """A point that is drawn."""

    number: int  # of its record
    path: str
    colour: str
    title: str


def signs(items: Sequence[Item]) -> dict[str, Sign]:
    """Return a sign for each of the commonest labels, and one for all others."""
    counts = Counter(item.label for item in items)
    named = [label for label, _ in counts.most_common() if label][:NAMED]
    result = {
        label: Sign(label, counts[label], SHAPES[i % len(SHAPES)], f"k{(i + i // 6) % COLOURS}")
        for i, label in enumerate(named)
    }
    rest = sum(count for label, count in counts.items() if label and label not in result)
    if rest:
        result[OTHERS] = Sign(OTHERS, rest, SHAPES[4], "rest")
    if counts[""]:
        result[NONE] = Sign(NONE, counts[""], SHAPES[0], "rest")
    return result


def sign_of(item: Item, among: dict[str, Sign]) -> Sign:
    """Return the sign of a record."""
    return among.get(item.label or NONE) or among[OTHERS]


def dots(items: Sequence[Item], points: Points, among: dict[str, Sign]) -> list[Dot]:
    """Return the points of records, scaled to the picture."""
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    size = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
    scaled = MARGIN + size * (points - low) / np.where(span > 0, span, 1)
    result = []
    for i, item in enumerate(items):
        sign = sign_of(item, among)
        x, y = scaled[i]
        title = f"{item.label}: {item.text}" if item.label else item.text
        result.append(Dot(i, f"M{x:.1f} {y:.1f}{sign.shape}", sign.colour, title))
    return result
