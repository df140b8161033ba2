"""The report of a demo: one HTML file that needs no network, no script and no other file.

The page itself, its styles and its fixed words are in page.html, in the same folder. Charts are
small SVG written here: they take colours and fonts from the page, so one drawing serves light,
dark and print.
"""

from __future__ import annotations

import base64
import contextlib
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from broadbase.core.errors import ResourceError
from broadbase.report.charts import Curve, curve, efficiency, escape, judge, number, whisker


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


def page(title: str, figures: Iterable[str]) -> str:
    """A page in the report's style that holds these figures and nothing else."""
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    head = template.partition("<body>")[0].replace("Broadbase report", escape(title))
    body = f'<body>\n<h1>{escape(title)}</h1>\n<div class="charts">{"".join(figures)}</div>\n'
    return f"{head}{body}</body>\n</html>\n"


def render(report: Report) -> str:
    """The page as text, the same for the same report; a part that would be empty is left out."""
    found = [judge(-row.high, -row.low) for each in report.likelihoods for row in each.rows]
    samples = (
        *map(_passage, report.texts),
        *map(_picture, report.pictures),
        *map(_drawing, report.drawings),
    )
    facts = (f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in report.facts.items())
    content = {
        "headline": headline(report),
        "bits": _tally(found, "fewer bits than {} of {} baselines", "more than {}"),
        "transfer": "".join(_transfer(report.transfer)),
        "efficiency": "".join(_efficiency(report.transfer)),
        "curves": "".join(map(curve, report.curves)),
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
    found = [judge(*_known(row, "gain_low", "gain_high")) for row in rows]
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


def _transfer(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    gains = [_known(row, "gain", "gain_low", "gain_high") for row in rows]
    # a wider interval than all scores there are says no more and would shrink the other rows
    ends = [max(-1.0, min(1.0, end)) for gain in gains for end in gain if math.isfinite(end)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    pad = 0.06 * (high - low) or 1.0
    for row, gain in zip(rows, gains, strict=True):
        verdict = judge(*gain[1:])
        how = f"{escape(row['method'])}, {escape(row.get('metric', 'accuracy'))}"
        scores = (row[name] for name in ("chance", "random_mean", "pretrained_mean"))
        chance, random, pretrained = (number(100 * score, ".1f") for score in scores)
        cells = (
            ("Task", f"{escape(row['task'])} <small>{how}</small>"),
            ("Labels", f"{row['labels']:,}"),
            ("Chance", chance),
            ("Random init", random),
            ("Pretrained", pretrained),
            ("Best classical", _classical(row)),
            ("", whisker(gain, low - pad, high + pad, verdict)),
            ("Gain", _spread((100 * g for g in gain), "+.1f")),
            ("", verdict),
        )
        yield _row(verdict, cells)


def _known(row: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    """These numbers of a row; NaN for what has no value, as the ends of no interval."""
    return tuple(math.nan if row[name] is None else row[name] for name in names)


def _classical(row: Mapping[str, Any]) -> str:
    """The best hand-made features' score, their name, and whether the base is above or below."""
    if row.get("best") is None:
        return ""
    verdict = {"better": "below", "worse": "above"}.get(
        judge(*_known(row, "lead_low", "lead_high")), "undecided"
    )
    score = number(100 * row["best_mean"], ".1f")
    return f"{score} <small>{escape(row['best'])}, {verdict}</small>"


def _efficiency(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A figure for every task and method that was tried with several numbers of labels."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["method"]), []).append(row)
    lines = {
        "pretrained": "pretrained_mean",
        "random init": "random_mean",
        "best classical": "best_mean",
    }
    for (task, method), group in groups.items():
        if len(group) > 1:
            drawn = {
                name: [(row["labels"], 100 * row[key]) for row in group if row[key] is not None]
                for name, key in lines.items()
            }
            yield efficiency(task, f"{group[0].get('metric', 'accuracy')}, {method}", drawn)


def _likelihood(likelihood: Likelihood) -> str:
    source, unit = escape(likelihood.source), escape(likelihood.unit)
    own = f"{source}: the model needs <b>{number(likelihood.model, '.3f')}</b> bits per {unit}"
    rows = [f'<tr class="group"><th colspan="4" scope="rowgroup">{own}</th></tr>']
    for row in likelihood.rows:
        verdict = judge(-row.high, -row.low)
        cells = (
            ("Baseline", escape(row.name)),
            ("Bits", number(row.bits, ".3f")),
            ("Model minus baseline", _spread(row[2:], "+.3f")),
            ("", {"better": "fewer bits", "worse": "more bits"}.get(verdict, verdict)),
        )
        rows.append(_row(verdict, cells))
    return f"<tbody>{''.join(rows)}</tbody>"


def _passage(text: Text) -> str:
    kind = ' class="code"' if text.code else ""
    words = f"<i>{escape(text.prompt)}</i>{escape(text.continuation)}"
    return (
        f"<figure><figcaption>{escape(text.source)}</figcaption><pre{kind}>{words}</pre></figure>"
    )


def _picture(picture: Picture) -> str:
    """A figure of the pixels, each enlarged by the same whole number."""
    pixels = np.clip(np.nan_to_num(np.asarray(picture.pixels, dtype=float)), 0, 1)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * pixels).astype(np.uint8)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    high, wide = (side * max(1, 112 // max(pixels.shape[:2])) for side in pixels.shape[:2])
    caption = escape(picture.caption)
    return (
        f'<figure class="picture"><img src="data:image/png;base64,{data}" width="{wide}"'
        f' height="{high}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )


def _drawing(drawing: Drawing) -> str:
    data, caption = base64.b64encode(drawing.svg.encode()).decode(), escape(drawing.caption)
    return (
        f'<figure class="picture"><img src="data:image/svg+xml;base64,{data}" width="150"'
        f' height="112" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )


def _row(verdict: str, cells: Iterable[tuple[str, str]]) -> str:
    """A table row whose cells know their column's name, which a phone shows in each."""
    row = "".join(f'<td data-head="{head}">{cell}</td>' for head, cell in cells)
    return f'<tr class="{verdict}">{row}</tr>\n'


def _spread(interval: Iterable[float], style: str) -> str:
    mean, low, high = (number(value, style) for value in interval)
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
