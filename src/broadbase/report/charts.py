"""Charts of the report: small SVG that takes its colours and fonts from the page around it.

One drawing therefore serves light, dark and print.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations

from broadbase.evidence.comparison import Comparison, Verdict
from broadbase.evidence.interval import Interval

Points = Sequence[tuple[float, float]]  # (step, bits per unit), or (labels, score)

WHISKER = 120  # width of the picture in a row of the table of tasks
WIDTH, LEFT, RIGHT, HEIGHT = 430, 30, 258, 210  # of a chart, and of the axes in it
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
SYMBOLS = {chr(i): chr(0x2400 + i) for i in range(32)} | {"\x7f": "\u2421"}


def whisker(gap: Interval, left: float, right: float, verdict: Verdict) -> str:
    """Draw a dot at a gap and a line over its interval; the picture spans `left` to `right`."""

    def x(value: float) -> float:
        return round(WHISKER * max(0.0, min(1.0, (value - left) / (right - left))), 1)

    zero = f'<path class="zero" d="M{x(0)} 0v24"/>'
    mean, low, high = gap
    if low is None or high is None or not all(map(math.isfinite, (mean, low, high))):
        return svg(WHISKER, 24, "unknown", zero)
    at = x(mean)
    dot = f'<circle cx="{at}" cy="12" r="4"/>'
    if verdict == "worse":  # another shape, for eyes and printers without colour
        dot = f'<path d="M{at} 6l6 6l-6 6l-6 -6z"/>'
    return svg(WHISKER, 24, verdict, f'{zero}<path d="M{x(low)} 12H{x(high)}"/>{dot}')


def efficiency(task: str, unit: str, lines: Mapping[str, Points]) -> str:
    """Draw a task's figure: score by labels, a line a method; the first line is the model's.

    The axis of labels is logarithmic, so that doubling them is one step anywhere.
    """
    title = f"<b>{escape(task)}</b> {escape(unit)}"
    finite = {name: points for name, line in lines.items() if (points := finite_points(line))}
    if not finite:
        return f"<figure><figcaption>{title}: nothing was measured</figcaption></figure>"
    ticks = sorted({labels for points in finite.values() for labels, _ in points})
    scores = [score for points in finite.values() for _, score in points]
    pad = max(0.08 * (max(scores) - min(scores)), 1e-3)
    low, high = min(scores) - pad, max(scores) + pad
    span = math.log(ticks[-1] / ticks[0]) or 1

    def x(labels: float) -> float:
        return round(LEFT + math.log(labels / ticks[0]) / span * (RIGHT - LEFT), 1)

    def y(score: float) -> float:
        return round((high - score) / (high - low) * HEIGHT, 1)

    classes = {name: "own" if name == next(iter(lines)) else "base" for name in finite}
    ends = [(y(finite[n][-1][1]), finite[n][-1][1], n, style) for n, style in classes.items()]
    parts = [*grid(low, high), *end_names(ends)]
    middle = ' text-anchor="middle"'
    parts += [f'<text x="{x(n)}" y="{HEIGHT + 18}"{middle}>{n:,.0f}</text>' for n in ticks]
    for name, points in finite.items():
        at = [(x(labels), y(score)) for labels, score in points]
        route = "L".join(f"{cx} {cy}" for cx, cy in at)
        parts.append(f'<path class="{classes[name]}" d="M{route}h0"/>')
        if classes[name] == "own":
            parts += [f'<circle class="own" cx="{cx}" cy="{cy}" r="3.5"/>' for cx, cy in at]
    drawing = svg(WIDTH, HEIGHT + 24, f"{escape(task)} by labels", "".join(parts))
    return f"<figure><figcaption>{title}</figcaption>{drawing}</figure>"


Cell = tuple[float, str, str, bool]  # from 0 to 1; its text, and that below it; whether framed


def recall_matrix(comparisons: Iterable[Comparison]) -> str | None:
    """Draw recall from each modality to each other, of at least three; otherwise None.

    The subjects are "audio > image" or, of a pair that was never trained, "audio > image, never
    paired": such pairs are framed. A square shows recall@10, and recall@1 below it.
    """
    recall: dict[tuple[str, str], dict[str, float]] = {}
    framed: dict[tuple[str, str], bool] = {}
    for row in comparisons:
        pair, _, note = row.subject.partition(", ")
        query, arrow, gallery = pair.partition(" > ")
        if arrow and row.metric.name.startswith("recall@"):
            recall.setdefault((query, gallery), {})[row.metric.name] = row.model
            framed[query, gallery] = bool(note)
    names = tuple(dict.fromkeys(query for query, _ in recall))
    if len(names) < 3:
        return None
    cells = {}
    for pair_of in permutations(names, 2):
        first, ten = recall[pair_of]["recall@1"], recall[pair_of]["recall@10"]
        cells[pair_of] = (ten, f"{ten:.2f}", f"{first:.2f} first", framed[pair_of])
    return matrix(names, cells)


def matrix(names: Sequence[str], cells: Mapping[tuple[str, str], Cell]) -> str:
    """Draw squares by row and column, the darker the higher, as an SVG file by itself."""
    side, left, top = 84, 70, 26
    width = left + side * len(names)
    style = 'font-family="sans-serif" font-size="13" text-anchor="middle"'
    parts = [f'<rect width="{width}" height="{top + side * len(names)}" fill="#fff"/>']
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
    drawing = svg(width, top + side * len(names), "from row to column", "".join(parts))
    return drawing.replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" {style} ', 1)


def heat(
    title: str, rows: Mapping[str, Sequence[float]], columns: Sequence[str], axes: tuple[str, str]
) -> str:
    """Draw a heat map of numbers from 0 to 1, each written in its cell; rows from top to bottom.

    `axes` says what rows and columns are.
    """
    height, width = HEIGHT / max(1, len(rows)), (WIDTH - LEFT - 20) / max(1, len(columns))
    middle, parts = ' text-anchor="middle"', list[str]()
    for i, (name, values) in enumerate(rows.items()):
        y, baseline = i * height, (i + 0.5) * height + 4
        parts.append(f'<text class="end" x="{LEFT + 14}" y="{baseline:.1f}">{escape(name)}</text>')
        for j, value in enumerate(values):
            x = LEFT + 20 + j * width
            opacity = 0.6 * max(0.0, min(1.0, value)) if math.isfinite(value) else 0.0
            size = f'width="{width - 2:.1f}" height="{height - 2:.1f}"'
            at = f'x="{x + 1:.1f}" y="{y + 1:.1f}"'
            parts.append(f'<rect class="own" {at} {size} fill-opacity="{opacity:.3f}"/>')
            at = f'x="{x + width / 2:.1f}" y="{baseline:.1f}"'
            parts.append(f"<text {at}{middle}><tspan>{number(value, '.2f')}</tspan></text>")
    for j, name in enumerate(columns):
        x = LEFT + 20 + (j + 0.5) * width
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT + 16}"{middle}>{escape(name)}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT + 34}"{middle}>{escape(axes[1])}</text>')
    caption = f"<b>{escape(title)}</b> {escape(axes[0])} downwards"
    drawing = svg(WIDTH, HEIGHT + 40, escape(title), "".join(parts))
    return f"<figure><figcaption>{caption}</figcaption>{drawing}</figure>"


def grid(low: float, high: float) -> Iterator[str]:
    """Yield lines across at round numbers."""
    step = 10.0 ** math.floor(math.log10(high - low))
    step /= 1 if high - low > 3 * step else 2 if high - low > 1.5 * step else 5
    for i in range(math.ceil(low / step), math.floor(high / step) + 1):
        y = round((high - i * step) / (high - low) * HEIGHT, 1)
        yield f'<path class="grid" d="M{LEFT} {y}H{RIGHT}"/>'
        yield f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{i * step:.4g}</text>'


def end_names(ends: Sequence[tuple[float, float, str, str]]) -> Iterator[str]:
    """Yield names right of the axes, each at its height or, where two would touch, near it."""
    at = -math.inf
    for i, (y, bits, name, style) in enumerate(sorted(ends), start=1):
        at = max(at + 15, min(y, HEIGHT - 15 * (len(ends) - i)))
        short = name if len(name) <= 21 else f"{name[:20]}…"
        yield f'<path class="lead" d="M{RIGHT + 2} {y}L{RIGHT + 12} {at}"/>'
        yield f'<text class="{style}" x="{RIGHT + 16}" y="{at + 4:.1f}">'
        yield f"<tspan>{bits:.2f}</tspan> {escape(short)}</text>"


def svg(width: int, height: int, label: str, body: str) -> str:
    """Return a drawing with its name, already escaped, for readers who do not see it."""
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg role="img" aria-label="{label}" {size}>{body}</svg>'


def finite_points(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points whose numbers are all finite."""
    return [point for point in points if all(map(math.isfinite, point))]


def escape(value: object) -> str:
    """Return text as HTML: it can end no element, and control characters are shown as symbols."""
    words = html.escape(str(value).replace("\r\n", "\n"))
    return CONTROL.sub(lambda match: SYMBOLS.get(match[0], "\N{REPLACEMENT CHARACTER}"), words)


def number(value: float, style: str) -> str:
    """Return a number in a format, with a true minus sign; "unknown" where it is not finite."""
    return f"{value:{style}}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else "unknown"
