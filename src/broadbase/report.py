"""The report of a demo: one HTML file that needs no network, no script and no other file.

The page itself, its styles and its fixed words are in report.html beside this file. Charts are
small SVG written here: they take colours and fonts from the page, so one drawing serves light,
dark and print.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from broadbase.core.errors import ResourceError

Points = Sequence[tuple[float, float]]  # (step, bits a unit)
Interval = tuple[float, float, float]  # mean, low, high

WHISKER = 120  # width of the picture in a row of the transfer table
WIDE, LEFT, RIGHT, TALL = 430, 30, 258, 210  # of a chart, and of the axes in it
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
PICTURES = {chr(i): chr(0x2400 + i) for i in range(32)} | {"\x7f": "\u2421"}


class Baseline(NamedTuple):
    """A baseline's bits a unit, and model minus baseline with its 95 % interval, paired."""

    name: str
    bits: float
    difference: float
    low: float
    high: float


class Text(NamedTuple):
    source: str
    prompt: str
    continuation: str
    code: bool = False  # set in a fixed-width font


class Picture(NamedTuple):
    caption: str
    pixels: NDArray[Any]  # in [0, 1], [H,W] or [H,W,C] with C of 1 (grey), 3 or 4


class Drawing(NamedTuple):
    caption: str
    svg: str  # a whole document of its own


@dataclass(frozen=True)
class Curve:
    """Bits a unit of one source over the steps, and baselines to draw across, by name."""

    source: str
    unit: str
    training: Points
    held_out: Points = ()
    lines: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Likelihood:
    """Bits a unit of one source's held-out data: the model's, and each baseline's."""

    source: str
    unit: str
    model: float
    rows: Sequence[Baseline]


@dataclass(frozen=True)
class Report:
    """What the page tells; a part without data is left out of it."""

    parameters: int
    seconds: float  # of pretraining, by the clock
    transfer: Sequence[Mapping[str, Any]]  # as `transfer.compare.Comparison.row()` gives
    curves: Sequence[Curve] = ()
    likelihoods: Sequence[Likelihood] = ()
    texts: Sequence[Text] = ()
    pictures: Sequence[Picture] = ()
    drawings: Sequence[Drawing] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


def write(path: Path, report: Report) -> None:
    """Put the page at `path`, whole or not at all; ResourceError where that cannot be done."""
    page = render(report).encode()
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        draft.write_bytes(page)
        draft.replace(path)
    except OSError as error:
        raise ResourceError(
            f"{path} cannot be written: {error.strerror or error}; make its folder, free space or"
            " permissions there, or give another path"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def render(report: Report) -> str:
    """The page as text, the same for the same report; a part that would be empty is left out."""
    found = [_verdict(-row.high, -row.low) for each in report.likelihoods for row in each.rows]
    samples = (
        *map(_passage, report.texts),
        *map(_picture, report.pictures),
        *map(_drawing, report.drawings),
    )
    facts = (f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in report.facts.items())
    content = {
        "headline": headline(report),
        "bits": _tally(found, "fewer bits than {} of {} baselines", "more than {}"),
        "transfer": "".join(_transfer(report.transfer)),
        "curves": "".join(map(_curve, report.curves)),
        "likelihoods": "".join(map(_likelihood, report.likelihoods)),
        "samples": "".join(samples),
        "facts": "".join(facts),
    }
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    parts = map(Template, template.split("<!-- part -->\n"))
    return "".join(
        p.substitute(content) for p in parts if all(map(content.get, p.get_identifiers()))
    )


def headline(report: Report) -> str:
    """What happened, in one sentence; a row is a win only if its whole interval is above 0."""
    size, time = _count(report.parameters), _duration(report.seconds)
    base = f"One base of {size} parameters, pretrained {time} without labels,"
    rows = report.transfer
    if not rows:
        return f"{base} was tried on no task."
    tasks = len({row["task"] for row in rows})
    things = f"{tasks} task{'s' * (tasks > 1)}"
    if tasks < len(rows):  # a task tried in two ways is not two tasks
        things = f"{len(rows)} comparisons on {things}"
    found = [_verdict(row["gain_low"], row["gain_high"]) for row in rows]
    wins = f"beats the same model from random init on {{}} of {things}"
    return f"{base} {_tally(found, wins, 'loses on {}')}."


def _tally(found: Sequence[str], wins: str, losses: str) -> str:
    """The verdicts counted, in words; none lost or undecided goes without saying."""
    if not found:
        return ""
    better, worse, rest = (found.count(v) for v in ("better", "worse", "undecided"))
    parts = [wins.format(better or "none", len(found))]
    parts += [losses.format(worse)] * (worse > 0) + [f"is undecided on {rest}"] * (rest > 0)
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _verdict(low: float, high: float) -> str:
    """Whether an interval of gains is above 0, below it, or neither: holds 0 or is not known."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "undecided"
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def _transfer(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    gains = [(row["gain"], row["gain_low"], row["gain_high"]) for row in rows]
    # a wider interval than all scores there are says no more and would shrink the other rows
    ends = [max(-1.0, min(1.0, end)) for gain in gains for end in gain if math.isfinite(end)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    pad = 0.06 * (high - low) or 1.0
    for row, gain in zip(rows, gains, strict=True):
        verdict = _verdict(*gain[1:])
        scores = (row[name] for name in ("chance", "random_mean", "pretrained_mean"))
        chance, random, pretrained = (_number(100 * score, ".1f") for score in scores)
        cells = (
            ("Task", _text(row["task"])),
            ("Method", f"{_text(row['method'])} <small>{len(row['pretrained'])} seeds</small>"),
            ("Labels", f"{row['labels']:,} <small>{_text(row.get('metric', 'accuracy'))}</small>"),
            ("Chance", chance),
            ("Random init", random),
            ("Pretrained", pretrained),
            ("Best classical", _classical(row)),
            ("", _whisker(gain, low - pad, high + pad, verdict)),
            ("Gain", _spread((100 * g for g in gain), "+.1f")),
            ("", verdict),
        )
        yield _row(verdict, cells)


def _classical(row: Mapping[str, Any]) -> str:
    """The best hand-made features' score, their name, and whether the base is above or below."""
    if row.get("best") is None:
        return ""
    verdict = {"better": "below", "worse": "above"}.get(
        _verdict(row["lead_low"], row["lead_high"]), "undecided"
    )
    score = _number(100 * row["best_mean"], ".1f")
    return f"{score} <small>{_text(row['best'])}, {verdict}</small>"


def _whisker(gain: Interval, left: float, right: float, verdict: str) -> str:
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


def _likelihood(likelihood: Likelihood) -> str:
    source, unit = _text(likelihood.source), _text(likelihood.unit)
    own = f"{source}: the model needs <b>{_number(likelihood.model, '.3f')}</b> bits per {unit}"
    rows = [f'<tr class="group"><th colspan="4" scope="rowgroup">{own}</th></tr>']
    for row in likelihood.rows:
        verdict = _verdict(-row.high, -row.low)
        cells = (
            ("Baseline", _text(row.name)),
            ("Bits", _number(row.bits, ".3f")),
            ("Model minus baseline", _spread(row[2:], "+.3f")),
            ("", {"better": "fewer bits", "worse": "more bits"}.get(verdict, verdict)),
        )
        rows.append(_row(verdict, cells))
    return f"<tbody>{''.join(rows)}</tbody>"


def _curve(curve: Curve) -> str:
    """A source's figure: the model's line and dots, baselines across, each named at its end."""
    dots, lines = _finite(curve.held_out), _finite((0, bits) for bits in curve.lines.values())
    training = _smooth(_finite(curve.training), 100)
    unit = f"bits per {_text(curve.unit)}"
    title = f"<b>{_text(curve.source)}</b> {unit}"
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
    parts = [*_axes(low, high, last), *_names([(y(end[0]), *end) for end in ends])]
    parts += [f'<path class="base" d="M{LEFT} {y(v)}H{RIGHT}"/>' for _, v in lines]
    if training:  # the inner svg clips; h0 makes a dot of a line of one point
        route = "L".join(f"{x(step)} {y(bits)}" for step, bits in training)
        parts.append(f'<svg height="{TALL}"><path class="own" d="M{route}h0"/></svg>')
    seen = ((x(step), y(bits)) for step, bits in dots if bits <= high)
    parts += [f'<circle class="own" cx="{cx}" cy="{cy}" r="3.5"/>' for cx, cy in seen]
    drawing = _svg(WIDE, TALL + 24, unit, "".join(parts))
    return f"<figure><figcaption>{title}</figcaption>{drawing}</figure>"


def _axes(low: float, high: float, last: float) -> Iterator[str]:
    """Lines across at round numbers of bits, and the first and last step."""
    step = 10.0 ** math.floor(math.log10(high - low))
    step /= 1 if high - low > 3 * step else 2 if high - low > 1.5 * step else 5
    for i in range(math.ceil(low / step), math.floor(high / step) + 1):
        y = round((high - i * step) / (high - low) * TALL, 1)
        yield f'<path class="grid" d="M{LEFT} {y}H{RIGHT}"/>'
        yield f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{i * step:.4g}</text>'
    yield f'<text x="{LEFT}" y="{TALL + 18}">0</text>'
    yield f'<text class="end" x="{RIGHT}" y="{TALL + 18}">{last:,.0f} steps</text>'


def _names(ends: Sequence[tuple[float, float, str, str]]) -> Iterator[str]:
    """Names right of the axes, each at its height or, where two would touch, a little off it."""
    at = -math.inf
    for i, (y, bits, name, kind) in enumerate(sorted(ends), start=1):
        at = max(at + 15, min(y, TALL - 15 * (len(ends) - i)))
        short = name if len(name) <= 21 else f"{name[:20]}…"
        yield f'<path class="lead" d="M{RIGHT + 2} {y}L{RIGHT + 12} {at}"/>'
        yield f'<text class="{kind}" x="{RIGHT + 16}" y="{at + 4:.1f}">'
        yield f"<tspan>{bits:.2f}</tspan> {_text(short)}</text>"


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


def _passage(text: Text) -> str:
    kind = ' class="code"' if text.code else ""
    words = f"<i>{_text(text.prompt)}</i>{_text(text.continuation)}"
    return f"<figure><figcaption>{_text(text.source)}</figcaption><pre{kind}>{words}</pre></figure>"


def _picture(picture: Picture) -> str:
    """A figure of the pixels, each enlarged by the same whole number."""
    pixels = np.clip(np.nan_to_num(np.asarray(picture.pixels, dtype=float)), 0, 1)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * pixels).astype(np.uint8)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    high, wide = (side * max(1, 112 // max(pixels.shape[:2])) for side in pixels.shape[:2])
    caption = _text(picture.caption)
    return (
        f'<figure class="picture"><img src="data:image/png;base64,{data}" width="{wide}"'
        f' height="{high}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )


def _drawing(drawing: Drawing) -> str:
    data, caption = base64.b64encode(drawing.svg.encode()).decode(), _text(drawing.caption)
    return (
        f'<figure class="picture"><img src="data:image/svg+xml;base64,{data}" width="150"'
        f' height="112" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )


def _row(verdict: str, cells: Iterable[tuple[str, str]]) -> str:
    """A table row whose cells know their column's name, which a phone shows in each."""
    row = "".join(f'<td data-head="{head}">{cell}</td>' for head, cell in cells)
    return f'<tr class="{verdict}">{row}</tr>\n'


def _text(value: object) -> str:
    """Text as HTML: it can end no element, and control characters are shown by their pictures."""
    words = html.escape(str(value).replace("\r\n", "\n"))
    return CONTROL.sub(lambda found: PICTURES.get(found[0], "\N{REPLACEMENT CHARACTER}"), words)


def _number(value: float, style: str) -> str:
    return f"{value:{style}}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else "unknown"


def _spread(interval: Iterable[float], style: str) -> str:
    mean, low, high = (_number(value, style) for value in interval)
    return f"{mean} <small>[{low}, {high}]</small>"


def _count(number: int) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return str(number)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
