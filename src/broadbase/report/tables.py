"""Tables on the terminal: one way to print rows, and one to print comparisons."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.measure import Measurement
from rich.table import Table

from broadbase.core.terminal import Terminal

if TYPE_CHECKING:
    from broadbase.evidence.comparison import Comparison

WIDEST = 10_000  # columns of a table that goes to a file
COMMON = ("subject", "labels", "metric", "items")  # columns that may hold one value in all rows
NUMBER = re.compile(r"[+-]?[\d,.]*\d(e[+-]?\d+)?|")  # or nothing


def print_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    title: str,
    terminal: Terminal | None = None,
) -> None:
    """Print a table of `columns`, numbers on the right; a key that a row lacks is an empty cell.

    The table is as wide as the terminal and, in a file, as wide as it needs.
    """
    terminal = terminal or Terminal()
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for column in columns:
        cells = [cell(row.get(column)) for row in rows]
        numbers = all(map(NUMBER.fullmatch, cells))
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(row.get(column)) for column in columns))
    if not terminal.is_terminal and "COLUMNS" not in os.environ:
        terminal.width = WIDEST
        table.width = Measurement.get(terminal, terminal.options, table).maximum
    terminal.print(table)


def print_comparisons(comparisons: Iterable[Comparison], title: str) -> None:
    """Print a row a comparison; an arrow shows which direction of a metric is better.

    What all rows have in common stands once, after the title, so that a terminal has room.
    """
    rows = [_row(comparison) for comparison in comparisons]
    columns = [
        name for name in dict.fromkeys(n for r in rows for n in r) if any(r[name] for r in rows)
    ]
    shared = [
        n for n in COMMON if n in columns and len(rows) > 1 and len({r[n] for r in rows}) == 1
    ]
    facts = ", ".join(f"{name}: {rows[0][name]}" for name in shared)
    shown = [name for name in columns if name not in shared]
    print_table(rows, shown, f"{title} ({facts})" if facts else title)


def _row(row: Comparison) -> dict[str, str]:
    ends = (row.gap.low, row.gap.high)
    return {
        "subject": row.subject,
        "labels": "" if row.train_size is None else str(row.train_size),
        "metric": row.metric.label,
        "baseline": row.baseline,
        "items": str(row.items),
        "score": f"{row.model:.3f}",
        "baseline score": f"{row.other:.3f}",
        "gap": f"{row.gap.mean:+.3f}",
        "95 % CI": " ".join(f"{end:+.3f}" for end in ends if end is not None),
    }


def cell(value: Any) -> str:
    """Return a value as text for a cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
