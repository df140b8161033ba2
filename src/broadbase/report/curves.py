"""Curves by step: those of one run with its baselines, and those of several runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from broadbase.report.charts import (
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    Points,
    end_names,
    escape,
    finite_points,
    grid,
    number,
    svg,
)

DRAWN = 100  # stretches of a line
ROWS = 24  # of the table of a curve
LINES = 8  # that style.css tells apart

Band = Sequence[tuple[float, float, float]]  # (step, lowest, highest)


@dataclass(frozen=True)
class Curve:
    """The bits per unit of one source by step, and the bits of baselines to draw across."""

    source: str
    unit: str
    training: Points
    held_out: Points = ()
    baselines: Mapping[str, float] = field(default_factory=dict)
    band: Band = ()  # around the points of training
    measure: str = "bits"

    @property
    def label(self) -> str:
        """Return what the numbers are, as HTML."""
        return f"{self.measure} per {escape(self.unit)}"


@dataclass(frozen=True)
class Frame:
    """Where steps and values are in a drawing."""

    last: float
    low: float
    high: float

    @classmethod
    def around(cls, points: Points, others: Iterable[float] = ()) -> Frame:
        """Return the frame of points and of values across; there is one at least.

        The first twentieth of the training may leave it: its fall would flatten the rest.
        """
        last = max((step for step, _ in points), default=0)
        framed = [*(value for step, value in points if step >= last / 20), *others]
        pad = max(0.06 * (max(framed) - min(framed)), 0.02)
        return cls(last, min(framed) - pad, max(framed) + pad)

    def x(self, step: float) -> float:
        """Return where a step is."""
        return round(LEFT + step / (self.last or 1) * (RIGHT - LEFT), 1)

    def y(self, value: float) -> float:
        """Return where a value is."""
        return round((self.high - value) / (self.high - self.low) * HEIGHT, 1)

    def axes(self) -> Iterator[str]:
        """Yield the lines across and the steps below."""
        yield from grid(self.low, self.high)
        yield f'<text x="{LEFT}" y="{HEIGHT + 18}">0</text>'
        yield f'<text class="end" x="{RIGHT}" y="{HEIGHT + 18}">{self.last:,.0f} steps</text>'

    def line(self, points: Points, style: str) -> str:
        """Return a line, cut at the frame; h0 makes a dot of a line of one point."""
        route = "L".join(f"{self.x(step)} {self.y(value)}" for step, value in points)
        return f'<svg height="{HEIGHT}"><path class="{style}" d="M{route}h0"/></svg>'


def curve(curve: Curve, table: bool = False) -> str:
    """Draw a source's figure: the model's line and dots, baselines across, each named at its end.

    With `table` the figure has its numbers as a table too.
    """
    dots = finite_points(curve.held_out)
    across = finite_points((0, value) for value in curve.baselines.values())
    training = _smooth(finite_points(curve.training), DRAWN)
    title = f"<b>{escape(curve.source)}</b> {curve.label}"
    if not training + dots + across:
        return f"<figure><figcaption>{title}: nothing was recorded</figcaption></figure>"
    frame = Frame.around(training + dots, [value for _, value in across])
    peak = max((value for _, value in training + dots), default=frame.low)
    title += f" <small>falling from {peak:.1f}, above the frame</small>" * (peak > frame.high)
    ends = [(v, name, "base") for name, v in curve.baselines.items() if math.isfinite(v)]
    ends += [(p[-1][1], n, "own") for n, p in (("training", training), ("held out", dots)) if p]
    parts = [*frame.axes(), *end_names([(frame.y(end[0]), *end) for end in ends])]
    parts += [f'<path class="base" d="M{LEFT} {frame.y(v)}H{RIGHT}"/>' for _, v in across]
    parts.append(_shade(frame, curve.band))
    parts += [frame.line(training, "own")] if training else []
    shown = ((frame.x(step), frame.y(value)) for step, value in dots if value <= frame.high)
    parts += [f'<circle class="own" cx="{cx}" cy="{cy}" r="3.5"/>' for cx, cy in shown]
    label = f"{escape(curve.source)}, {curve.label}"
    drawing = svg(WIDTH, HEIGHT + 24, label, "".join(parts))
    twin = _table(curve.source, _curve_rows(curve, training, dots)) if table else ""
    return f"<figure><figcaption>{title}</figcaption>{drawing}{twin}</figure>"


def overlay(source: str, label: str, lines: Mapping[str, Points]) -> str:
    """Draw the lines of several runs in one figure, each named at its end, with their table."""
    title = f"<b>{escape(source)}</b> {escape(label)}"
    finite = {n: _smooth(p, DRAWN) for n, line in lines.items() if (p := finite_points(line))}
    if not finite:
        return f"<figure><figcaption>{title}: nothing was recorded</figcaption></figure>"
    frame = Frame.around([point for points in finite.values() for point in points])
    styles = {name: f"line line-{i % LINES + 1}" for i, name in enumerate(lines)}
    ends = [(frame.y(p[-1][1]), p[-1][1], name, styles[name]) for name, p in finite.items()]
    parts = [*frame.axes(), *end_names(ends)]
    parts += [frame.line(points, styles[name]) for name, points in finite.items()]
    drawing = svg(WIDTH, HEIGHT + 24, f"{escape(source)}, {escape(label)}", "".join(parts))
    rows = [("Step", *finite)]
    steps = _thinned(sorted({step for points in finite.values() for step, _ in points}))
    rows += [(f"{s:,.0f}", *(_at(points, s) for points in finite.values())) for s in steps]
    return f"<figure><figcaption>{title}</figcaption>{drawing}{_table(source, rows)}</figure>"


def _curve_rows(curve: Curve, training: Points, dots: Points) -> list[tuple[str, ...]]:
    """Return the rows of a curve's table; the first names the columns."""
    rows = [("Step", "Training", *(["Held out"] if dots else []))]
    held_out = dict(dots)
    for step in _thinned([step for step, _ in dots or training]):
        value = [number(held_out[step], ".3f")] if dots else []
        rows.append((f"{step:,.0f}", _at(training, step), *value))
    rows += [
        (name, number(v, ".3f"), *([""] if dots else [])) for name, v in curve.baselines.items()
    ]
    return rows


def _table(source: str, rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows, the first of them names, as a table that the reader opens."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in rows[0])
    body = "".join(
        f"<tr><td>{'</td><td>'.join(escape(cell) for cell in row)}</td></tr>" for row in rows[1:]
    )
    name = re.sub(r"\W", "-", source)  # by which the studio keeps it open
    opened = f'<details id="table-{name}"><summary>As a table</summary>'
    words = f'<div class="wide" role="region" tabindex="0" aria-label="{escape(source)}">'
    table = f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f"{opened}{words}{table}</div></details>"


def _thinned(steps: Sequence[float]) -> list[float]:
    """Return up to ROWS of these steps, the first and the last among them."""
    at = np.unique(np.linspace(0, len(steps) - 1, min(ROWS, len(steps))).round().astype(int))
    return [steps[i] for i in at]


def _at(points: Points, step: float) -> str:
    """Return the value at the last point up to a step, or nothing where the line has ended."""
    before = [value for at, value in points if at <= step]
    ended = bool(points) and step > points[-1][0] * 1.05
    return "" if ended or not (before or points) else number((before or [points[0][1]])[-1], ".3f")


def _shade(frame: Frame, band: Band) -> str:
    """Return the area from the lowest to the highest values."""
    finite = [each for each in band if all(map(math.isfinite, each))]
    if len(finite) < 2:
        return ""
    upper = [f"{frame.x(step)} {frame.y(high)}" for step, _, high in finite]
    lower = [f"{frame.x(step)} {frame.y(low)}" for step, low, _ in reversed(finite)]
    route = "L".join([*upper, *lower])
    return f'<svg height="{HEIGHT}"><path class="band" d="M{route}z"/></svg>'


def _smooth(points: list[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """Return the means of up to `count` stretches of points."""
    stretches = np.array_split(np.array(points).reshape(-1, 2), min(count, len(points) or 1))
    return [(float(s[:, 0].mean()), float(s[:, 1].mean())) for s in stretches if len(s)]
