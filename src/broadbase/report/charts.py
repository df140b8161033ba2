"""Charts of the report: small SVG that takes its colours and fonts from the page around it.

One drawing so serves light, dark and print.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Points = Sequence[tuple[float, float]]  # (step, bits a unit)
Interval = tuple[float, float, float]  # mean, low, high

WHISKER = 120  # width of the picture in a row of the transfer table
WIDE, LEFT, RIGHT, TALL = 430, 30, 258, 210  # of a chart, and of the axes in it
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
PICTURES = {chr(i): chr(0x2400 + i) for i in range(32)} | {"\x7f": "\u2421"}


@dataclass(frozen=True)
class Curve:
    """Bits a unit of one source over the steps, and baselines to draw across, by name."""

    source: str
    unit: str
    training: Points
    held_out: Points = ()
    lines: Mapping[str, float] = field(default_factory=dict)


def whisker(gain: Interval, left: float, right: float, verdict: str) -> str:
    """A dot at the gain and a line over its interval; `left` to `right` is the width."""

    def x(value: float) -> float:
        return round(WHISKER * max(0.0, min(1.0, (value - left) / (right - left))), 1)

    zero = f'<path class="zero" d="M{x(0)} 0v24"/>'
    if not all(map(math.isfinite, gain)):
        return _svg(WHISKER, 24, "unknown", zero)
    at, low, high = map(x, gain)
    dot = f'<circle cx="{at}" cy="12" r="4"/>'
    if verdict == "worse":  # a shape of its own, for eyes and printers without colour
        dot = f'<path d="M{at} 6l6 6l-6 6l-6 -6z"/>'
    return _svg(WHISKER, 24, verdict, f'{zero}<path d="M{low} 12H{high}"/>{dot}')


def curve(curve: Curve) -> str:
    """A source's figure: the model's line and dots, baselines across, each named at its end."""
    dots, lines = _finite(curve.held_out), _finite((0, bits) for bits in curve.lines.values())
    training = _smooth(_finite(curve.training), 100)
    unit = f"bits per {escape(curve.unit)}"
    title = f"<b>{escape(curve.source)}</b> {unit}"
    if not training + dots + lines:
        return f"<figure><figcaption>{title}: nothing was recorded</figcaption></figure>"
    last = max((step for step, _ in training + dots), default=0)
    # the fall of the first twentieth may leave the frame: it would press flat all that follows
    kept = [bits for step, bits in training + dots if step >= last / 20] + [b for _, b in lines]
    pad = max(0.06 * (max(kept) - min(kept)), 0.02)
    low, high = min(kept) - pad, max(kept) + pad
    peak = max((bits for _, bits in training + dots), default=low)
    title += f" <small>falling from {peak:.1f}, above the frame</small>" * (peak > high)

    def x(step: float) -> float:
        return round(LEFT + step / (last or 1) * (RIGHT - LEFT), 1)

    def y(bits: float) -> float:
        return round((high - bits) / (high - low) * TALL, 1)

    ends = [(v, name, "base") for name, v in curve.lines.items() if math.isfinite(v)]
    ends += [(p[-1][1], n, "own") for n, p in (("training", training), ("held out", dots)) if p]
    parts = [*_grid(low, high), *_names([(y(end[0]), *end) for end in ends])]
    parts.append(f'<text x="{LEFT}" y="{TALL + 18}">0</text>')
    parts.append(f'<text class="end" x="{RIGHT}" y="{TALL + 18}">{last:,.0f} steps</text>')
    parts += [f'<path class="base" d="M{LEFT} {y(v)}H{RIGHT}"/>' for _, v in lines]
    if training:  # the inner svg clips; h0 makes a dot of a line of one point
        route = "L".join(f"{x(step)} {y(bits)}" for step, bits in training)
        parts.append(f'<svg height="{TALL}"><path class="own" d="M{route}h0"/></svg>')
    seen = ((x(step), y(bits)) for step, bits in dots if bits <= high)
    parts += [f'<circle class="own" cx="{cx}" cy="{cy}" r="3.5"/>' for cx, cy in seen]
    drawing = _svg(WIDE, TALL + 24, unit, "".join(parts))
    return f"<figure><figcaption>{title}</figcaption>{drawing}</figure>"


def efficiency(task: str, unit: str, lines: Mapping[str, Points]) -> str:
    """A task's figure: score over labels, a line a method; the first line is the model's.

    Labels go by their logarithm, so that twice as many are one step anywhere.
    """
    title = f"<b>{escape(task)}</b> {escape(unit)}"
    kept = {name: points for name, line in lines.items() if (points := _finite(line))}
    if not kept:
        return f"<figure><figcaption>{title}: nothing was measured</figcaption></figure>"
    seen = sorted({labels for points in kept.values() for labels, _ in points})
    scores = [score for points in kept.values() for _, score in points]
    pad = max(0.08 * (max(scores) - min(scores)), 1e-3)
    low, high = min(scores) - pad, max(scores) + pad
    wide = math.log(seen[-1] / seen[0]) or 1

    def x(labels: float) -> float:
        return round(LEFT + math.log(labels / seen[0]) / wide * (RIGHT - LEFT), 1)

    def y(score: float) -> float:
        return round((high - score) / (high - low) * TALL, 1)

    kinds = {name: "own" if name == next(iter(lines)) else "base" for name in kept}
    ends = [(y(kept[name][-1][1]), kept[name][-1][1], name, kind) for name, kind in kinds.items()]
    parts = [*_grid(low, high), *_names(ends)]
    middle = ' text-anchor="middle"'
    parts += [f'<text x="{x(n)}" y="{TALL + 18}"{middle}>{n:,.0f}</text>' for n in seen]
    for name, points in kept.items():
        at = [(x(labels), y(score)) for labels, score in points]
        route = "L".join(f"{cx} {cy}" for cx, cy in at)
        parts.append(f'<path class="{kinds[name]}" d="M{route}h0"/>')
        if kinds[name] == "own":
            parts += [f'<circle class="own" cx="{cx}" cy="{cy}" r="3.5"/>' for cx, cy in at]
    drawing = _svg(WIDE, TALL + 24, f"{escape(task)} by labels", "".join(parts))
    return f"<figure><figcaption>{title}</figcaption>{drawing}</figure>"


Cell = tuple[float, str, str, bool]  # from 0 to 1; what is written, and below it; whether framed


def matrix(names: Sequence[str], cells: Mapping[tuple[str, str], Cell]) -> str:
    """Squares by row and column, the darker the more; a file by itself, unlike the others."""
    side, left, top = 84, 70, 26
    wide = left + side * len(names)
    style = 'font-family="sans-serif" font-size="13" text-anchor="middle"'
    parts = [f'<rect width="{wide}" height="{top + side * len(names)}" fill="#fff"/>']
    for i, name in enumerate(names):
        middle = side * i + side // 2
        parts.append(f'<text x="{left + middle}" y="{top - 9}">{escape(name)}</text>')
        parts.append(f'<text x="{left // 2}" y="{top + middle + 4}">{escape(name)}</text>')
    for (row, column), (value, words, below, framed) in cells.items():
        x, y = left + side * names.index(column), top + side * names.index(row)
        frame = ' stroke="#c40" stroke-width="3"' if framed else ""
        square = f'x="{x + 3}" y="{y + 3}" width="{side - 6}" height="{side - 6}"'
        shade = f'fill="#0a5fb4" fill-opacity="{max(0.0, min(1.0, value)) * 0.6:.2f}"'
        parts.append(f"<rect {square} {shade}{frame}/>")
        parts.append(f'<text x="{x + side // 2}" y="{y + 42}">{escape(words)}</text>')
        parts.append(
            f'<text x="{x + side // 2}" y="{y + 60}" font-size="11">{escape(below)}</text>'
        )
    drawing = _svg(wide, top + side * len(names), "from row to column", "".join(parts))
    return drawing.replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" {style} ', 1)


def heat(
    title: str, rows: Mapping[str, Sequence[float]], columns: Sequence[str], axes: tuple[str, str]
) -> str:
    """A heat map of shares from 0 to 1, each written in its cell; rows from top to bottom.

    `axes` says what rows and columns are.
    """
    tall, wide = TALL / max(1, len(rows)), (WIDE - LEFT - 20) / max(1, len(columns))
    middle, parts = ' text-anchor="middle"', list[str]()
    for i, (name, shares) in enumerate(rows.items()):
        y, written = i * tall, (i + 0.5) * tall + 4
        parts.append(f'<text class="end" x="{LEFT + 14}" y="{written:.1f}">{escape(name)}</text>')
        for j, share in enumerate(shares):
            x = LEFT + 20 + j * wide
            full = 0.6 * max(0.0, min(1.0, share)) if math.isfinite(share) else 0.0
            size = f'width="{wide - 2:.1f}" height="{tall - 2:.1f}" fill-opacity="{full:.3f}"'
            parts.append(f'<rect class="own" x="{x + 1:.1f}" y="{y + 1:.1f}" {size}/>')
            place = f'x="{x + wide / 2:.1f}" y="{written:.1f}"'
            parts.append(f"<text {place}{middle}><tspan>{number(share, '.2f')}</tspan></text>")
    for j, name in enumerate(columns):
        x = LEFT + 20 + (j + 0.5) * wide
        parts.append(f'<text x="{x:.1f}" y="{TALL + 16}"{middle}>{escape(name)}</text>')
    parts.append(f'<text x="{WIDE / 2}" y="{TALL + 34}"{middle}>{escape(axes[1])}</text>')
    caption = f"<b>{escape(title)}</b> {escape(axes[0])} downwards"
    drawing = _svg(WIDE, TALL + 40, escape(title), "".join(parts))
    return f"<figure><figcaption>{caption}</figcaption>{drawing}</figure>"


def _grid(low: float, high: float) -> Iterator[str]:
    """Lines across at round numbers."""
    step = 10.0 ** math.floor(math.log10(high - low))
    step /= 1 if high - low > 3 * step else 2 if high - low > 1.5 * step else 5
    for i in range(math.ceil(low / step), math.floor(high / step) + 1):
        y = round((high - i * step) / (high - low) * TALL, 1)
        yield f'<path class="grid" d="M{LEFT} {y}H{RIGHT}"/>'
        yield f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{i * step:.4g}</text>'


def _names(ends: Sequence[tuple[float, float, str, str]]) -> Iterator[str]:
    """Names right of the axes, each at its height or, where two would touch, a little off it."""
    at = -math.inf
    for i, (y, bits, name, kind) in enumerate(sorted(ends), start=1):
        at = max(at + 15, min(y, TALL - 15 * (len(ends) - i)))
        short = name if len(name) <= 21 else f"{name[:20]}…"
        yield f'<path class="lead" d="M{RIGHT + 2} {y}L{RIGHT + 12} {at}"/>'
        yield f'<text class="{kind}" x="{RIGHT + 16}" y="{at + 4:.1f}">'
        yield f"<tspan>{bits:.2f}</tspan> {escape(short)}</text>"


def _svg(wide: int, tall: int, label: str, body: str) -> str:
    """A drawing, with its name (escaped already) for readers who do not see it."""
    size = f'viewBox="0 0 {wide} {tall}" width="{wide}" height="{tall}"'
    return f'<svg role="img" aria-label="{label}" {size}>{body}</svg>'


def _smooth(points: list[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """The means of up to `count` stretches of points."""
    stretches = np.array_split(np.array(points).reshape(-1, 2), min(count, len(points) or 1))
    return [(float(s[:, 0].mean()), float(s[:, 1].mean())) for s in stretches if len(s)]


def _finite(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return [point for point in points if all(map(math.isfinite, point))]


def judge(low: float, high: float) -> str:
    """Whether an interval of gains is above 0, below it, or neither: holds 0 or is not known."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "undecided"
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def escape(value: object) -> str:
    """Text as HTML: it can end no element, and control characters are shown by their pictures."""
    words = html.escape(str(value).replace("\r\n", "\n"))
    return CONTROL.sub(lambda found: PICTURES.get(found[0], "\N{REPLACEMENT CHARACTER}"), words)


def number(value: float, style: str) -> str:
    return f"{value:{style}}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else "unknown"
