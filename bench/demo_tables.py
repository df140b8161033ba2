"""The tables of docs/demo.md, from the results of a demo.

python bench/demo_tables.py runs/demo-1
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from broadbase.adapt.few_labels import LABELS
from broadbase.demo.borrow import SHOWN, Borrowed
from broadbase.demo.story import leads
from broadbase.evidence.few_labels import OWN, RANDOM, FewLabels
from broadbase.evidence.interval import Interval

Row = Mapping[str, Any]


def signed(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def ends(low: float | None, high: float | None, digits: int = 2) -> str:
    return f"{signed(low, digits)} {signed(high, digits)}"


def bold(lead: Interval) -> str:
    """The lead, in bold where its interval is above 0."""
    return f"**{signed(lead.mean)}**" if lead.above_zero else signed(lead.mean)


def few_labels(borrowed: Borrowed, labels: int) -> Iterator[str]:
    """A row for each task and method."""
    yield "| task | random init | our base | hand-made, best | published base | lead | 95 % |"
    yield "|---|--:|--:|---|---|--:|---|"
    for lead in leads(borrowed, (labels,)):
        others = [f"{lead.others[m]:.2f}" if m in lead.others else "" for m in (RANDOM, OWN)]
        features = f"{lead.features.mean:.2f} {lead.features.method}"
        published = f"{lead.published.mean:.2f} {lead.published.method}"
        cells = [lead.task, *others, features, published, bold(lead.gap), ends(*lead.gap[1:])]
        yield f"| {' | '.join(cells)} |"


def tasks(results: Row) -> Iterator[str]:
    """A row for each task of pictures and molecules."""
    yield "| task | random init | pretrained | gain | 95 % | best hand-made features |"
    yield "|---|--:|--:|--:|---|---|"
    for task in results["tasks"]:
        rows = {row["baseline"]: row for row in task["comparisons"]}
        random, best = rows["random init"], rows[task["best_features"]]
        gap = Interval(random["gap"], random["ci_low"], random["ci_high"])
        scores = f"{random['baseline_score']:.2f} | {random['score']:.2f}"
        features = f"{best['baseline_score']:.2f} {best['baseline']}"
        yield f"| {task['task']} | {scores} | {bold(gap)} | {ends(*gap[1:])} | {features} |"


def bits(results: Row) -> Iterator[str]:
    """A row for each source and baseline."""
    yield "| source | base | baseline | bits | base minus baseline | 95 % |"
    yield "|---|--:|---|--:|--:|---|"
    for row in results["likelihood"]:
        cells = [row["subject"], f"{row['score']:.3f}", row["baseline"]]
        cells += [f"{row['baseline_score']:.3f}", signed(row["gap"], 3)]
        yield f"| {' | '.join(cells)} | {ends(row['ci_low'], row['ci_high'], 3)} |"


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    results = json.loads((parser.parse_args().folder / "results.json").read_text())
    rows = [FewLabels.from_json(row) for row in results["few_labels"]]
    text, sound = ([r for r in rows if (OWN in r.scores) == own] for own in (True, False))
    borrowed = Borrowed(text, sound, results["flop"])
    print(*results["headline"], sep="\n\n")
    for labels in (SHOWN, *(n for n in (0, *LABELS) if n != SHOWN)):
        print(f"\n{labels} labels of each class\n", *few_labels(borrowed, labels), sep="\n")
    for title, table in (("tasks", tasks(results)), ("bits", bits(results))):
        print(f"\n{title}\n", *table, sep="\n")
    print("\n", json.dumps({"flop": results["flop"], **results["facts"]}, indent=1))


if __name__ == "__main__":
    main()
