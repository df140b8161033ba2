"""The demo: make a base, borrow others, and use one, from nothing to a report in minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from broadbase.adapt.few_labels import LABELS
from broadbase.core.errors import ConfigError
from broadbase.core.files import write_json, write_text
from broadbase.demo.borrow import SHOWN, Borrowed, borrow
from broadbase.demo.make import STEPS, Made, curves, facts, make
from broadbase.demo.story import headline, leads, picture, table
from broadbase.demo.use import Used, use
from broadbase.evidence.few_labels import OWN, RANDOM
from broadbase.report import page
from broadbase.report.tables import print_table

NOTES = (
    "What the published base is compared with is taken at its best: the method with the best mean"
    " on the tested records. A star marks a task whose texts are in part in the base's training"
    " data. Our base reads no sound."
)


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
    console.print(f"\n{total:.0f} s in all   base: {out / 'model'}   page: {out / 'report.html'}")


def results(made: Made, borrowed: Borrowed, used: Used) -> dict[str, Any]:
    """Return all numbers as plain values."""
    return {
        "headline": list(headline(borrowed)),
        "flop": dict(borrowed.flop),
        "few_labels": [row.as_json() for row in (*borrowed.text, *borrowed.sound)],
        "tasks": [result.as_json() for result in made.tasks],
        "likelihood": [row.as_json() for row in made.bits],
        "molecules": [row.as_json() for row in made.chemistry],
        "commands": [line for line, _ in used.commands],
        "facts": facts(made),
    }


def report(made: Made, borrowed: Borrowed, used: Used) -> page.Report:
    """Return the contents of the page."""
    first, second = headline(borrowed)
    spent = ", ".join(f"{model} {flop:.0e}" for model, flop in borrowed.flop.items())
    return page.Report(
        title=first,
        lead=second,
        parameters=made.parameters,
        seconds=made.seconds,
        tasks=made.tasks,
        headline=picture(borrowed),
        leads=leads(borrowed, (SHOWN, 0)),
        more_leads=leads(borrowed, [n for n in LABELS if n != SHOWN]),
        models=(RANDOM, OWN),
        notes=NOTES,
        curves=curves(made.run, made.bits),
        likelihoods=made.bits,
        texts=made.texts,
        pictures=made.pictures,
        drawings=made.drawings,
        commands=used.commands,
        predictions=used.rows,
        facts={"command": "broadbase demo", "FLOP of pretraining": spent, **facts(made)},
    )
