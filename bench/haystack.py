"""Needle accuracy by depth and length: a heat map for each model, as tables and a page.

python bench/haystack.py RUN [--out haystack.html]

The same numbers by length, with intervals, come from `broadbase evaluate RUN`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from broadbase.evaluate.needle import DEPTHS, HAYSTACKS, Recall, recalls
from broadbase.report.charts import heat
from broadbase.report.page import page
from broadbase.run.run import Run
from broadbase.weights.folder import load


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, help="where to draw them [RUN/haystack.html]")
    options = parser.parse_args()
    run, figures = Run.open(options.run), []
    for source in run.config.data.sources:
        for name, recall in recalls(run, load(options.run), source).items():
            print(table(source, name, recall))
            figures.append(drawn(source, name, recall))
    out = options.out or options.run / "haystack.html"
    out.write_text(page("Needle accuracy", figures))
    print(out)


def table(source: str, name: str, recall: Recall) -> str:
    """Markdown: a row a depth, a column a length, percent of the haystacks."""
    head = " | ".join(map(str, recall.lengths))
    lines = [f"{source}, {name}, % of {HAYSTACKS}:", "", f"| depth | {head} |"]
    lines.append("|---" * (1 + len(recall.lengths)) + "|")
    for j, depth in enumerate(DEPTHS):
        shares = " | ".join(f"{100 * each:.0f}" for each in recall.correct[:, j].mean(axis=1))
        lines.append(f"| {depth:g} | {shares} |")
    return "\n".join([*lines, ""])


def drawn(source: str, name: str, recall: Recall) -> str:
    """The same as a heat map."""
    rows = {
        f"{depth:g}": recall.correct[:, j].mean(axis=1).tolist() for j, depth in enumerate(DEPTHS)
    }
    return heat(f"{source}: {name}", rows, [*map(str, recall.lengths)], ("depth", "length, tokens"))


if __name__ == "__main__":
    main()
