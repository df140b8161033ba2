"""The report of a demo: one HTML file that needs no network, no script and no other file.

The page itself and its fixed words are in page.html, in the same folder, its style in style.css,
which the studio serves too. Charts are small SVG: they take colours and fonts from the page, so
one drawing serves light, dark and print.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from string import Template

from broadbase.adapt.result import TaskResult
from broadbase.core.errors import ResourceError
from broadbase.evidence.comparison import Comparison, Verdict
from broadbase.report.charts import efficiency, escape, number, whisker
from broadbase.report.curves import Curve, curve
from broadbase.report.few_labels import Lead, table
from broadbase.report.rows import interval, table_row
from broadbase.report.samples import Drawing, Picture, Text

STYLE = Path(__file__).with_name("style.css")


@dataclass(frozen=True)
class Report:
    """The contents of the page; a part without data is left out of it."""

    title: str
    parameters: int  # of the base that was pretrained
    seconds: float  # of its pretraining, by the clock
    tasks: Sequence[TaskResult]
    lead: str = ""  # the paragraph below the title
    headline: str = ""  # a picture, as SVG
    leads: Sequence[Lead] = ()  # of published bases
    more_leads: Sequence[Lead] = ()  # that the reader opens
    models: Sequence[str] = ()  # that published bases are compared with
    notes: str = ""  # on the published bases
    curves: Sequence[Curve] = ()
    likelihoods: Sequence[Comparison] = ()  # in bits per unit, by source
    texts: Sequence[Text] = ()
    pictures: Sequence[Picture] = ()
    drawings: Sequence[Drawing] = ()
    commands: Sequence[tuple[str, str]] = ()  # with what they printed
    predictions: Sequence[tuple[str, str, str]] = ()  # text, label, probability
    facts: Mapping[str, str] = field(default_factory=dict)


def write(path: Path, report: Report) -> None:
    """Write the report to `path`, completely or not at all; ResourceError where that fails."""
    write_page(path, render(report))


def write_page(path: Path, text: str) -> None:
    """Write a page to `path`, completely or not at all; ResourceError where that fails."""
    page = text.encode()
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


def template() -> str:
    """Return page.html with the style that reports and the studio share."""
    text = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    return text.replace("/* style.css */\n", STYLE.read_text(encoding="utf-8"))


def page(title: str, figures: Iterable[str]) -> str:
    """Return a page in the report's style that holds these figures and nothing else."""
    head = template().partition("<body>")[0].replace("Broadbase report", escape(title))
    body = f'<body>\n<h1>{escape(title)}</h1>\n<div class="charts">{"".join(figures)}</div>\n'
    return f"{head}{body}</body>\n</html>\n"


def render(report: Report) -> str:
    """Return the page as text, the same for the same report; empty parts are left out."""
    shown: list[Text | Picture | Drawing] = [*report.texts, *report.pictures, *report.drawings]
    samples = [each.html() for each in shown]
    by_source = groupby(report.likelihoods, key=lambda row: row.subject)
    verdicts = [row.verdict for row in report.likelihoods]
    facts = (f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in report.facts.items())
    content = {
        "title": escape(report.title),
        "lead": escape(report.lead),
        "headline": report.headline,
        "made": made(report),
        "bits": _tally(verdicts, "fewer bits than {} of {} baselines", "more than {}"),
        "tasks": "".join(_tasks(report.tasks)),
        "efficiency": "".join(_efficiency(report.tasks)),
        "curves": "".join(map(curve, report.curves)),
        "likelihoods": "".join(_likelihood(list(rows)) for _, rows in by_source),
        "samples": "".join(samples),
        "leads": table(report.leads, report.models),
        "more": table(report.more_leads, report.models),
        "notes": escape(report.notes),
        "commands": "".join(_command(*each) for each in report.commands),
        "predictions": "".join(_prediction(*each) for each in report.predictions),
        "facts": "".join(facts),
    }
    parts = map(Template, template().split("<!-- part -->\n"))
    return "".join(
        p.substitute(content) for p in parts if all(map(content.get, p.get_identifiers()))
    )


def made(report: Report) -> str:
    """Return what happened in one sentence; a row is a win only if all its interval is above 0."""
    size, time = _count(report.parameters), _duration(report.seconds)
    model = f"One model of {size} parameters, pretrained {time} without labels,"
    rows = report.tasks
    if not rows:
        return f"{model} was tried on no task."
    tasks = len({row.task for row in rows})
    things = f"{tasks} task{'s' * (tasks > 1)}"
    if tasks < len(rows):  # a task tried in two ways is not two tasks
        things = f"{len(rows)} comparisons on {things}"
    verdicts = [row.random_init.verdict for row in rows]
    wins = f"beats the same model from random initialisation on {{}} of {things}"
    return f"{model} {_tally(verdicts, wins, 'loses on {}')}."


def _tally(verdicts: Sequence[Verdict], wins: str, losses: str) -> str:
    """Return the verdicts counted, in words; losses and undecided ones only where there are any."""
    if not verdicts:
        return ""
    better, worse = verdicts.count("better"), verdicts.count("worse")
    undecided = len(verdicts) - better - worse
    parts = [wins.format(better or "none", len(verdicts))]
    parts += [losses.format(worse)] * (worse > 0)
    parts += [f"is undecided on {undecided}"] * (undecided > 0)
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _tasks(results: Sequence[TaskResult]) -> Iterator[str]:
    """Yield the rows of the table of tasks, whose whiskers share one scale."""
    gaps = [result.random_init.gap for result in results]
    # a wider interval than all scores there are says no more and would shrink the other rows
    ends = [
        max(-1.0, min(1.0, end))
        for gap in gaps
        for end in gap
        if end is not None and math.isfinite(end)
    ]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    pad = 0.06 * (high - low) or 1.0
    for result, gap in zip(results, gaps, strict=True):
        random = result.random_init
        how = f"{escape(result.method)}, {escape(result.metric.name)}"
        scores = (result.chance.other, random.other, random.model)
        chance, untrained, pretrained = (number(100 * score, ".1f") for score in scores)
        cells = (
            ("Task", f"{escape(result.task)} <small>{how}</small>"),
            ("Labels", f"{result.train_size:,}"),
            ("Chance", chance),
            ("Random init", untrained),
            ("Pretrained", pretrained),
            ("Best features", _best_features(result)),
            ("", whisker(gap, low - pad, high + pad, random.verdict)),
            ("Gain", interval(gap, "+.1f", 100)),
            ("", random.verdict),
        )
        yield table_row(random.verdict, cells)


def _best_features(result: TaskResult) -> str:
    """Return the best hand-made features' score and name, and where it lies from the model's."""
    best = result.best_features
    if best is None:
        return ""
    side = {"better": "below", "worse": "above", "undecided": "undecided"}[best.verdict]
    return f"{number(100 * best.other, '.1f')} <small>{escape(best.baseline)}, {side}</small>"


def _efficiency(results: Sequence[TaskResult]) -> Iterator[str]:
    """Yield a figure for every task and method that was tried with several numbers of labels."""
    groups: dict[tuple[str, str], list[TaskResult]] = {}
    for result in results:
        groups.setdefault((result.task, result.method), []).append(result)
    for (task, method), group in groups.items():
        if len(group) > 1:
            features = ((r.train_size, r.best_features) for r in group)
            lines = {
                "pretrained": [(r.train_size, 100 * r.random_init.model) for r in group],
                "random init": [(r.train_size, 100 * r.random_init.other) for r in group],
                "best features": [(n, 100 * best.other) for n, best in features if best],
            }
            yield efficiency(task, f"{group[0].metric.name}, {method}", lines)


def _command(line: str, printed: str) -> str:
    return f'<pre class="code"><b>$ {escape(line)}</b>\n{escape(printed)}</pre>'


def _prediction(text: str, label: str, probability: str) -> str:
    return f"<tr><td>{escape(text)}</td><td>{escape(label)}</td><td>{escape(probability)}</td></tr>"


def _likelihood(comparisons: Sequence[Comparison]) -> str:
    """Return the rows of one source's bits per unit."""
    first = comparisons[0]
    score = f"{number(first.model, '.3f')}</b> {escape(first.metric.name)}"
    title = f"{escape(first.subject)}: the model needs <b>{score}"
    rows = [f'<tr class="group"><th colspan="4" scope="rowgroup">{title}</th></tr>']
    for row in comparisons:
        words = {"better": "fewer bits", "worse": "more bits", "undecided": "undecided"}
        cells = (
            ("Baseline", escape(row.baseline)),
            ("Bits", number(row.other, ".3f")),
            ("Model minus baseline", interval(row.gap, "+.3f")),
            ("", words[row.verdict]),
        )
        rows.append(table_row(row.verdict, cells))
    return f"<tbody>{''.join(rows)}</tbody>"


def _count(number: int) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return str(number)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
