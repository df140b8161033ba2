"""Rows of the page's tables, and the numbers in them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from broadbase.evidence.comparison import Verdict
from broadbase.evidence.interval import Interval
from broadbase.report.charts import number


def table_row(verdict: Verdict, cells: Iterable[tuple[str, str]]) -> str:
    """Return a table row whose cells name their column, which a phone shows in each."""
    row = "".join(f'<td data-head="{head}">{cell}</td>' for head, cell in cells)
    return f'<tr class="{verdict}">{row}</tr>\n'


def interval(value: Interval, style: str, scale: float = 1) -> str:
    """Return a mean and its interval in a format; "unknown" for what has no value."""
    values = (math.nan if each is None else scale * each for each in value)
    mean, low, high = (number(each, style) for each in values)
    return f"{mean} <small>[{low}, {high}]</small>"
