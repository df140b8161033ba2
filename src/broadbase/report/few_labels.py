"""Few labels on the page: a row for each task and number of labels, with the lead as a picture."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from broadbase.evidence.comparison import Verdict
from broadbase.evidence.few_labels import Best
from broadbase.evidence.interval import Interval
from broadbase.report.charts import escape, number, whisker
from broadbase.report.rows import interval, table_row


class Lead(NamedTuple):
    """A published base next to what it is compared with, on one task."""

    group: str  # the heading of its part of the table
    task: str
    published: Best
    features: Best
    others: dict[str, float]  # the means of other models
    gap: Interval  # published base minus hand-made features

    @property
    def verdict(self) -> Verdict:
        """Return whether the published base is ahead; undecided where the interval holds 0."""
        if self.gap.above_zero:
            return "better"
        return "worse" if self.gap.below_zero else "undecided"


def table(leads: Sequence[Lead], models: Collection[str]) -> str:
    """Return a table of leads, in parts by their headings; `models` are the columns of others."""
    if not leads:
        return ""
    heads = ("Task", *(name.capitalize() for name in models), "Hand-made features, best")
    cells = "".join(f"<th>{escape(h)}</th>" for h in (*heads, "Published base", "", "Lead", ""))
    ends = [e for lead in leads for e in lead.gap if e is not None and math.isfinite(e)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    pad = 0.06 * (high - low) or 1.0
    parts = []
    for name, rows in groupby(leads, key=lambda lead: lead.group):
        head = f'<th colspan="{len(heads) + 4}" scope="rowgroup">{escape(name)}</th>'
        body = "".join(_rows(rows, models, low - pad, high + pad))
        parts.append(f'<tbody><tr class="group">{head}</tr>\n{body}</tbody>')
    return f'<table class="leads"><thead><tr>{cells}</tr></thead>{"".join(parts)}</table>'


def _rows(
    leads: Iterator[Lead], models: Collection[str], left: float, right: float
) -> Iterator[str]:
    for lead in leads:
        others = [(escape(name.capitalize()), _mean(lead.others.get(name))) for name in models]
        features = f"{number(lead.features.mean, '.2f')} <small>{escape(lead.features.method)}"
        published = f"<b>{number(lead.published.mean, '.2f')}</b>"
        cells = (
            ("Task", escape(lead.task)),
            *others,
            ("Hand-made features", f"{features}</small>"),
            ("Published base", f"{published} <small>{escape(lead.published.method)}</small>"),
            ("", whisker(lead.gap, left, right, lead.verdict)),
            ("Lead", interval(lead.gap, "+.2f")),
            ("", lead.verdict),
        )
        yield table_row(lead.verdict, cells)


def _mean(value: float | None) -> str:
    return "" if value is None else number(value, ".2f")
