"""The picture of the demo: score against pretraining, and small panels by number of labels.

It is an SVG file by itself, with colours for light and dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Literal

from broadbase.evidence.interval import Interval
from broadbase.report.charts import escape, number

Style = Literal["published", "own", "random", "features"]
Line = Sequence[tuple[float, float]]  # (labels of each class, score)
_Scale = Callable[[float], float]

WIDTH, HEIGHT = 880, 446
LEFT, RIGHT, TOP, BOTTOM = 44, 366, 84, 380  # of the axes of the chart
ZERO, FIRST = 72, 118  # where 0 FLOP is, and where the logarithmic part begins
GRID, SIDE, TALL = (
    (430, 84),
    (130, 82),
    (152, 116),
)  # panels: corner, size, and from one to the next
COLUMNS = 3
AXIS = "FLOP of pretraining"
FONT = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif'
SHAPES = f"""
.headline {{ font: 12px {FONT}; font-variant-numeric: tabular-nums }}
.headline .title {{ font-weight: 600 }}
.headline .small {{ font-size: 11px }}
.headline .tick {{ font-size: 10px }}
.headline .end {{ text-anchor: end }}
.headline .middle {{ text-anchor: middle }}
.headline text {{ stroke-width: 4; stroke-linejoin: round; paint-order: stroke }}
.headline path {{ fill: none; stroke-linejoin: round; stroke-linecap: round }}
.headline .band {{ stroke: none; opacity: .13 }}
.headline .trend {{ stroke-dasharray: 1 5; stroke-width: 1.5 }}
.headline circle {{ stroke-width: 1.2 }}
.headline .random circle {{ stroke-width: 1.6 }}
.headline .published .line {{ stroke-width: 2.2 }}
.headline .own .line {{ stroke-width: 1.7 }}
.headline .features .line {{ stroke-width: 1.5; stroke-dasharray: 5 4 }}
.headline .random .line {{ stroke-width: 1.1 }}
"""
COLOURS = """
.headline .page { fill: $page; stroke: none }
.headline text { fill: $soft; stroke: $page }
.headline .title { fill: $ink }
.headline path { stroke: $rule }
.headline .axis, .headline .trend, .headline .random path { stroke: $soft }
.headline .band { fill: $soft }
.headline circle { stroke: $page }
.headline .random circle { fill: $page; stroke: $soft }
.headline .features path { stroke: $ink }
.headline .published path { stroke: $published }
.headline .published circle { fill: $published }
.headline .own path { stroke: $own }
.headline .own circle { fill: $own }
"""
LIGHT = {
    "ink": "#1b1f24",
    "soft": "#5c6570",
    "rule": "#dfe3e8",
    "page": "#ffffff",
    "published": "#0a5fb4",
    "own": "#c2570c",
}
DARK = {
    "ink": "#e4e7eb",
    "soft": "#9aa4b0",
    "rule": "#333a43",
    "page": "#14171b",
    "published": "#62b0ff",
    "own": "#f0964b",
}
STYLE = (
    SHAPES
    + Template(COLOURS).substitute(LIGHT)
    + f"@media screen and (prefers-color-scheme: dark) {{{Template(COLOURS).substitute(DARK)}}}\n"
)


@dataclass(frozen=True)
class Point:
    """A model on the axis of pretraining."""

    name: str
    style: Style
    flop: float
    score: Interval


@dataclass(frozen=True)
class Panel:
    """A task: a line of scores from 0 to 1 by number of labels for each style."""

    title: str
    lines: Mapping[Style, Line]


@dataclass(frozen=True)
class Headline:
    """What the picture shows."""

    title: str  # of the chart: what the score is
    points: Sequence[Point]
    level: Point  # what needs no pretraining: a line across
    panels: Sequence[Panel]
    labels: Sequence[int]  # the numbers of labels of the panels

    def draw(self) -> str:
        """Return the picture as an SVG file."""
        body = "".join([*self._chart(), *self._legend(), *self._small()])
        size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        name = escape(f"{self.title}, against FLOP of pretraining; and each task by labels")
        head = f'<svg xmlns="http://www.w3.org/2000/svg" class="headline" role="img" {size}'
        page = f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
        return f'{head} aria-label="{name}"><style>{STYLE}</style>{page}{body}</svg>\n'

    def _chart(self) -> Iterator[str]:
        ends = [e for p in (*self.points, self.level) for e in p.score if e is not None]
        low, high = math.floor(10 * min(ends) - 0.5) / 10, math.ceil(10 * max(ends)) / 10
        last = math.ceil(math.log10(max(p.flop for p in self.points))) + 0.3
        first = math.floor(math.log10(min(p.flop for p in self.points if p.flop))) - 0.4

        def x(flop: float) -> float:
            if not flop:
                return ZERO
            share = (math.log10(flop) - first) / (last - first)
            return round(FIRST + share * (RIGHT - FIRST), 1)

        def y(score: float) -> float:
            return round(BOTTOM - (score - low) / (high - low) * (BOTTOM - TOP), 1)

        yield f'<text class="title" x="16" y="28">{escape(self.title)}</text>'
        words = "mean of the tasks, by pretraining; bars and band: 95 % intervals"
        yield f'<text class="small" x="16" y="46">{words}</text>'
        for i in range(round(10 * low), round(10 * high) + 1):
            at = y(i / 10)
            yield f'<path d="M{LEFT} {at}H{RIGHT}"/>'
            yield f'<text class="tick end" x="{LEFT - 8}" y="{at + 4:.1f}">{i / 10:.1f}</text>'
        yield f'<text class="tick middle" x="{ZERO}" y="{BOTTOM + 18}">0</text>'
        yield f'<path class="axis" d="M{FIRST - 24} {BOTTOM + 5}l5 -10m4 10l5 -10"/>'
        for power in range(math.ceil(first), math.floor(last) + 1):
            at = x(10.0**power)
            yield f'<path class="axis" d="M{at} {BOTTOM}v4"/>'
            if power % 2:
                label = f'10<tspan dy="-4" font-size="8">{power}</tspan>'
                yield f'<text class="tick middle" x="{at}" y="{BOTTOM + 18}">{label}</text>'
        yield f'<text class="small middle" x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 40}">{AXIS}</text>'
        yield from self._level(y)
        route = "L".join(f"{x(p.flop)} {y(p.score.mean)}" for p in self.points)
        yield f'<path class="trend" d="M{route}"/>'
        for point in self.points:
            yield _point(point, x(point.flop), y)

    def _level(self, y: _Scale) -> Iterator[str]:
        mean, low, high = self.level.score
        if low is not None and high is not None:
            size = f'width="{RIGHT - LEFT}" height="{y(low) - y(high):.1f}"'
            yield f'<rect class="band" x="{LEFT}" y="{y(high)}" {size}/>'
        at = y(mean)
        words = f'{escape(self.level.name)} <tspan class="title">{number(mean, ".2f")}</tspan>'
        yield f'<g class="features"><path class="line" d="M{LEFT} {at}H{RIGHT}"/>'
        yield f'<text x="{LEFT + 8}" y="{at - 14:.1f}">{words}</text></g>'

    def _legend(self) -> Iterator[str]:
        x = GRID[0]
        yield f'<text class="title" x="{x}" y="28">Each task, by labels of each class</text>'
        for point in (*reversed(self.points), self.level):
            line = f'<path class="line" d="M{x} 46h16"/>'
            dot = "" if point is self.level else f'<circle cx="{x + 8}" cy="46" r="3.4"/>'
            words = f'<text class="tick" x="{x + 20}" y="49.5">{escape(point.name)}</text>'
            yield f'<g class="{point.style}">{line}{dot}{words}</g>'
            x += 28 + round(5.9 * len(point.name))

    def _small(self) -> Iterator[str]:
        for i, panel in enumerate(self.panels):
            left = GRID[0] + i % COLUMNS * TALL[0]
            top = GRID[1] + i // COLUMNS * TALL[1]
            yield from self._panel(panel, left, top, ticks=i % COLUMNS == 0)

    def _panel(self, panel: Panel, left: int, top: int, ticks: bool) -> Iterator[str]:
        step = SIDE[0] / (len(self.labels) - 1)

        def x(labels: float) -> float:
            return round(left + step * list(self.labels).index(int(labels)), 1)

        def y(score: float) -> float:
            return round(top + SIDE[1] * (1 - score), 1)

        yield f'<text class="title small" x="{left}" y="{top - 6}">{escape(panel.title)}</text>'
        for score in (0, 0.5, 1):
            yield f'<path d="M{left} {y(score)}h{SIDE[0]}"/>'
            if ticks:
                yield f'<text class="tick end" x="{left - 6}" y="{y(score) + 4:.1f}">{score}</text>'
        for labels in self.labels:
            at = f'x="{x(labels)}" y="{top + SIDE[1] + 13}"'
            yield f'<text class="tick middle" {at}>{labels}</text>'
        for style in ("random", "features", "own", "published"):
            points = [(x(n), y(score)) for n, score in panel.lines.get(style, ())]
            if points:
                route = "L".join(f"{cx} {cy}" for cx, cy in points)
                dots = "".join(f'<circle cx="{cx}" cy="{cy}" r="3"/>' for cx, cy in points)
                dots = dots if style == "published" else ""
                yield f'<g class="{style}"><path class="line" d="M{route}h0"/>{dots}</g>'


def _point(point: Point, at: float, y: _Scale) -> str:
    mean, low, high = point.score
    bar = "" if low is None or high is None else f'<path d="M{at} {y(low)}V{y(high)}"/>'
    dot = f'<circle cx="{at}" cy="{y(mean)}" r="6"/>'
    x, below, anchor = at + 12, 4, ""
    if at == ZERO:
        x, below = at - 8, 26
    elif at > (LEFT + RIGHT) / 2:
        x, anchor = at - 12, "end"
    words = f'<tspan class="title">{number(mean, ".2f")}</tspan> {escape(point.name)}'
    text = f'<text x="{x:.1f}" class="{anchor}" y="{y(mean) + below:.1f}">{words}</text>'
    return f'<g class="{point.style}">{bar}{dot}{text}</g>'
