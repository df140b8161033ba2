"""The demo: make a base, borrow others, and use one, from nothing to a report in minutes."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from broadbase.core.errors import ConfigError
from broadbase.core.files import write_json, write_text
from broadbase.demo.borrow import SHOWN, Borrowed, borrow
from broadbase.demo.make import STEPS, Made, facts, make
from broadbase.demo.story import headline, picture, sections, table
from broadbase.demo.use import Used, use
from broadbase.report import page
from broadbase.report.tables import print_table


def demo(out: Path, console: Console, quick: bool = False) -> None:
    """Pretrain a base on four kinds of data, compare it with published ones, and use one of these.

    All numbers go to `out`/results.json, the picture to `out`/headline.svg, and a page to
    `out`/report.html; the headline and its table are printed. `quick` is a smoke test: a tenth of
    the steps, two tasks. ConfigError where `out` exists.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already; delete it, or give another --out")
    started = time.monotonic()
    console.print("1/3 make one: a base, pretrained here")
    made = make(out, STEPS // 10 if quick else STEPS, console)
    console.print("2/3 borrow one: published bases, with few labels")
    borrowed = borrow(made, console, quick)
    console.print("3/3 use it: from a table to predictions")
    used = use(out / "use", console)
    write_json(out / "results.json", results(made, borrowed, used), indent=1)
    write_text(out / "headline.svg", picture(borrowed))
    page.write(out / "report.html", report(made, borrowed, used))
    print_table(*table(borrowed))
    for sentence in headline(borrowed):
        console.print(f"\n{sentence}")
    total = time.monotonic() - started
    console.print(
        f"\nreport: {out / 'report.html'}   model: {out / 'model'}   {total:.0f} s in all"
    )
