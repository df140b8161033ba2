"""Several runs compared: what differs in their configs, their curves, the paired difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from broadbase.core.trees import parsed
from broadbase.evidence.comparison import Comparison
from broadbase.evidence.interval import paired_interval
from broadbase.report.charts import escape, number
from broadbase.report.curves import overlay
from broadbase.report.rows import interval
from broadbase.report.run_page import RunView

LONGEST = 60  # characters of a setting


def compared(views: Sequence[RunView]) -> str:
    """Return the comparison of two runs or more, as HTML."""
    return "".join((_differences(views), _curves(views), _newest(views), _paired(views)))


def flat(tree: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the settings of a config by their path, as --set takes it."""
    items: Any = ()
    if isinstance(tree, Mapping):
        items = tree.items()
    elif isinstance(tree, list):
        items = enumerate(tree)
    if not items:
        yield path, "null" if tree is None else str(tree)
    for key, value in items:
        yield from flat(value, f"{path}.{key}" if path else str(key))


def differences(configs: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return a row for each setting that differs between configs: its path, and each value."""
    trees = [dict(flat(_tree(text))) for text in configs.values()]
    paths = dict.fromkeys(path for tree in trees for path in tree)
    rows = [(path, *(tree.get(path, "") for tree in trees)) for path in paths]
    return [row for row in rows if len(set(row[1:])) > 1]


def paired(a: RunView, b: RunView) -> Iterator[tuple[Comparison, Comparison]]:
    """Yield what `evaluate` measured of both runs on the same held-out documents."""
    data, other_data = ({s.name: s.fingerprint for s in view.sources} for view in (a, b))
    others = {(row.subject, row.metric): row for row in b.comparisons}
    rows = {(row.subject, row.metric): row for row in a.comparisons}
    for key, row in rows.items():
        other = others.get(key)
        same = data.get(row.subject) == other_data.get(row.subject) != ""
        if other and same and len(row.per_item) == len(other.per_item) > 1:
            yield row, other


def _differences(views: Sequence[RunView]) -> str:
    rows = differences({view.summary.name: view.config for view in views})
    if not rows:
        return "<h2>What differs</h2><p>The configs are equal.</p>"
    return f"<h2>What differs</h2>{_table(('Setting', *_names(views)), rows, 'What differs')}"


def _curves(views: Sequence[RunView]) -> str:
    figures = []
    for source in dict.fromkeys(name for view in views for name in view.journal.training):
        unit = "bits per unit" if any(source in v.journal.in_bits for v in views) else "nats"
        for kind in ("held_out", "training"):
            curves = {v.summary.name: getattr(v.journal, kind).get(source) for v in views}
            lines = {name: curve.points() for name, curve in curves.items() if curve}
            figures.append(overlay(f"{source}, {kind.replace('_', ' ')}", unit, lines))
    return f'<h2>Curves</h2><div class="charts">{"".join(figures)}</div>'


def _newest(views: Sequence[RunView]) -> str:
    rows = list[tuple[str, ...]]()
    for source in dict.fromkeys(name for view in views for name in view.journal.held_out):
        cells = [source]
        for view in views:
            curve = view.journal.held_out.get(source)
            last = curve.last if curve else None
            cells.append(f"{number(last[1], '.3f')} after step {last[0]:,}" if last else "")
        rows.append(tuple(cells))
    table = _table(("Data", *_names(views)), rows, "Newest held-out scores")
    return f"<h2>Newest held-out scores</h2><p>Lower is better.</p>{table}"


def _paired(views: Sequence[RunView]) -> str:
    rows, lacking = list[tuple[str, ...]](), dict[str, None]()
    for a, b in combinations(views, 2):
        pairs = [*paired(a, b)]
        for row, other in pairs:
            gap = paired_interval(row.per_item, other.per_item)
            names = f"{escape(a.summary.name)} minus {escape(b.summary.name)}"
            about = (escape(row.subject), escape(row.metric.label), str(len(row.per_item)))
            rows.append((names, *about, interval(gap, "+.4f")))
        if not pairs:
            lacking |= dict.fromkeys(v.summary.name for v in (a, b) if not v.comparisons)
            lacking[""] = None
    head = "<h2>Paired difference</h2>"
    if rows:
        columns = ("Runs", "Data", "Metric", "Documents", "Difference, 95 % interval")
        head += _table(columns, rows, "Paired difference", escaped=True)
    if not lacking:
        return head
    commands = [f"<code>broadbase evaluate RUNS/{escape(name)}</code>" for name in lacking if name]
    how = f"To get one: {', '.join(commands)}." if commands else "Their held-out data differ."
    return (
        f"{head}<p>There is no paired difference {'of some runs ' if rows else ''}yet: it needs the"
        f" scores of each held-out document, on the same data. {how}</p>"
    )


def _names(views: Sequence[RunView]) -> list[str]:
    return [view.summary.name for view in views]


def _table(
    head: Sequence[str], rows: Sequence[tuple[str, ...]], label: str, escaped: bool = False
) -> str:
    """Return a table; its cells are text, or with `escaped` HTML."""
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    cells = (
        "".join(f"<td>{cell if escaped else escape(_brief(cell))}</td>" for cell in row)
        for row in rows
    )
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table><thead>'
        f"<tr>{names}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _brief(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _tree(text: str) -> object:
    try:
        return parsed(text)
    except ValueError:
        return {}
