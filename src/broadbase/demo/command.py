"""The demo from nothing to a report: pretrain one base, adapt it three times, generate, tell."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from broadbase import report
from broadbase.core.errors import ConfigError
from broadbase.demo.tasks import LABELS, SEEDS, TEST, tasks
from broadbase.evaluate import Likelihood, likelihoods
from broadbase.model.base import Base
from broadbase.model.generate import SamplingConfig
from broadbase.recipes import mixed
from broadbase.run import Run
from broadbase.train.journal import read
from broadbase.transfer.adapt import Method, adapt
from broadbase.transfer.compare import Comparison
from broadbase.weights.folder import load

DEPTH, STEPS = 4, 600
PROMPTS = {"text": "The city of", "code": "def read_file(path):\n"}
SAMPLING = SamplingConfig(temperature=0.8, top_p=0.95)


def demo(out: Path, console: Console, steps: int = STEPS) -> None:
    """Pretrain on prose, Python and digits; probe three tasks; write `out`/report.html.

    All numbers also go to `out`/results.json; the tables are printed to stdout.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already; delete it, or give another --out")
    config = mixed.build(DEPTH, None)
    config = config.model_copy(update={"train": config.train.model_copy(update={"steps": steps})})
    console.print(f"1/4 pretraining {steps} steps on three kinds of data, without labels")
    run = Run.create(config, out, console)
    began = time.monotonic()
    run.train(console)
    seconds = time.monotonic() - began
    base = load(out / "model")
    console.print(f"2/4 adapting to three tasks, {SEEDS} splits each, against random init")
    transfer = [
        row for task in tasks() for row in adapt(base, task, Method.probe, LABELS, TEST, SEEDS)
    ]
    console.print("3/4 comparing with n-grams on held-out data")
    bits = likelihoods(run, base)
    console.print("4/4 generating samples")
    texts, pictures = samples(base)
    rows = {"transfer": [t.row() for t in transfer], "likelihood": [b.row() for b in bits]}
    (out / "results.json").write_text(json.dumps(rows, indent=1))
    report.write(
        out / "report.html",
        report.Report(
            parameters=sum(p.numel() for p in base.model.parameters()),
            seconds=seconds,
            transfer=rows["transfer"],
            curves=curves(run, bits),
            likelihoods=tables(bits),
            texts=texts,
            pictures=pictures,
            facts=facts(run, seconds),
        ),
    )
    show(transfer, bits)
    console.print(f"report: {out / 'report.html'}   model: {out / 'model'}")


def samples(base: Base) -> tuple[list[report.Text], list[report.Picture]]:
    """A continuation of each prompt, and digits from nothing."""
    texts = [
        report.Text(
            name,
            prompt,
            base.generate(prompt, modality=name, places=64, sampling=SAMPLING),
            code=name == "code",
        )
        for name, prompt in PROMPTS.items()
    ]
    grids = [
        base.generate(modality="image", grid=(4, 4), sampling=SamplingConfig(seed=seed))
        for seed in range(8)
    ]
    return texts, [report.Picture(f"drawn, seed {i}", g) for i, g in enumerate(grids)]


def curves(run: Run, bits: Sequence[Likelihood]) -> list[report.Curve]:
    """What every source's loss did, with the n-grams as lines."""
    journal = read(run.folder / "metrics.jsonl")
    return [
        report.Curve(
            source,
            run.stores[source].unit,
            training=_points(journal, "bits", source),
            held_out=_points(journal, "validation_bits", source),
            lines={b.baseline: b.baseline_bits for b in bits if b.source == source},
        )
        for source in run.config.data.sources
    ]


def tables(bits: Sequence[Likelihood]) -> list[report.Likelihood]:
    """The likelihoods, source by source."""
    found = []
    for source, group in groupby(bits, key=lambda b: b.source):
        rows = list(group)
        lines = [
            report.Baseline(b.baseline, b.baseline_bits, b.difference, b.low, b.high) for b in rows
        ]
        found.append(report.Likelihood(source, rows[0].unit, rows[0].model_bits, lines))
    return found


def facts(run: Run, seconds: float) -> dict[str, str]:
    """How the numbers came about."""
    machine = run.config.machine
    places = sum(m.rows * m.length for m in run.config.data.sources.values())
    seen = places * run.config.train.steps
    return {
        "command": "make demo",
        "training": f"{run.config.train.steps} steps, {seen:,} places in {seconds:.0f} s",
        "machine": f"{machine.device}, {machine.precision}, compile {machine.compile}",
        "tasks": f"fixed in demo/tasks.py: frozen probe, {SEEDS} splits, labels {LABELS}",
        **{k: str(v) for k, v in run.environment().items() if k != "data"},
    }


def show(transfer: Sequence[Comparison], bits: Sequence[Likelihood]) -> None:
    """Both tables on stdout."""
    gains = Table("task", "labels", "random init", "pretrained", "gain", "95 %", title="accuracy")
    for t in transfer:
        mean, low, high = t.gain
        scores = [f"{np.mean(s):.3f}" for s in (t.random, t.pretrained)]
        gains.add_row(t.task, str(t.labels), *scores, f"{mean:+.3f}", f"{low:+.3f} {high:+.3f}")
    nats = Table(
        "source", "baseline", "bits", "base", "differs", "95 %", title="bits on held-out data"
    )
    for b in bits:
        span = f"{b.low:+.3f} {b.high:+.3f}"
        two = (f"{b.baseline_bits:.3f}", f"{b.model_bits:.3f}")
        nats.add_row(f"{b.source}/{b.unit}", b.baseline, *two, f"{b.difference:+.3f}", span)
    for table in (gains, nats):
        Console().print(table)


def _points(journal: Sequence[dict[str, Any]], key: str, source: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key][source]) for row in journal if source in row.get(key, {})]
