"""The demo from nothing to a report: pretrain one base, adapt it six times, generate, tell."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from broadbase.adapt.adapt import adapt
from broadbase.adapt.finetune import FinetuneConfig
from broadbase.adapt.method import Method
from broadbase.core.contracts import Record
from broadbase.core.errors import ConfigError
from broadbase.core.terminal import Terminal
from broadbase.data.samples.catalog import DigitsConfig
from broadbase.demo.molecules import DRAWN, Validity, molecules
from broadbase.demo.tasks import LABELS, MANY, SEEDS, TEST, labels, tasks
from broadbase.evaluate.likelihood import likelihoods
from broadbase.evaluate.registry import Measured
from broadbase.evidence.comparison import Comparison
from broadbase.inference.autoregressive import SamplingConfig, generate
from broadbase.inference.base import Base
from broadbase.inference.documents import prompts
from broadbase.recipes import mixed
from broadbase.recipes.mixed import DIGITS
from broadbase.report import page
from broadbase.report.charts import Curve
from broadbase.run.run import Run
from broadbase.train.metrics_log import read
from broadbase.weights.folder import load

DEPTH, STEPS = 4, 900
BASES = 3  # pretraining seeds of the full study
FINETUNED = 100  # labels
FINETUNING = FinetuneConfig(steps=160, lr=2e-3)  # by labels of no task: bench/finetuning.py
FILLED = 4  # held-out digits whose lower half is told
WATTS = 12  # a busy core of a server, with its share of the rest: an estimate
PROMPTS = {"text": "The city of", "code": "def read_file(path):\n"}
SAMPLING = SamplingConfig(temperature=0.8, top_p=0.95)


def demo(out: Path, console: Console, steps: int = STEPS, full: bool = False) -> None:
    """Pretrain on four kinds of data; probe six tasks beside random init and classical features.

    `full` pretrains under three seeds and fine-tunes as well, which takes about an hour. All
    numbers go to `out`/results.json, a page to `out`/report.html; the tables are printed to stdout.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already; delete it, or give another --out")
    began = time.monotonic()
    seeds = BASES if full else 1
    console.print(f"1/4 pretraining {steps} steps on four kinds of data, without labels")
    runs = [_pretrained(out / f"seed-{s}" if s else out, s, steps, console) for s in range(seeds)]
    seconds = (time.monotonic() - began) / seeds
    run, bases = runs[0], [load(run.folder / "model") for run in runs]
    transfer = list(_transfers(bases, full, console))
    console.print("3/4 comparing with n-grams on held-out data")
    bits = likelihoods(run, bases[0])
    console.print("4/4 generating samples")
    texts, pictures = samples(bases[0])
    valid, drawings = molecules(run, bases[0])
    rows = {
        "transfer": [t.row() for t in transfer],
        "likelihood": [b.row() for b in bits],
        "molecules": [v.row() for v in valid],
    }
    (out / "results.json").write_text(json.dumps(rows, indent=1))
    page.write(
        out / "report.html",
        page.Report(
            parameters=sum(p.numel() for p in bases[0].model.parameters()),
            seconds=seconds,
            transfer=rows["transfer"],
            curves=curves(run, bits),
            likelihoods=tables(run, bits),
            texts=texts,
            pictures=pictures,
            drawings=drawings,
            facts=facts(run, bases[0], seconds, valid),
        ),
    )
    show(transfer, bits, valid)
    took = time.monotonic() - began
    console.print(f"report: {out / 'report.html'}   model: {out / 'model'}   {took:.0f} s in all")


def _pretrained(out: Path, seed: int, steps: int, console: Console) -> Run:
    config = mixed.build(DEPTH, None)
    train = config.train.model_copy(update={"steps": steps})
    config = config.model_copy(update={"train": train, "seed": seed})
    run = Run.create(config, out, console)
    run.train(console)
    return run


def _transfers(bases: Sequence[Base], full: bool, console: Console) -> Iterator[Comparison]:
    console.print(f"2/4 adapting to six tasks, {SEEDS} splits each, against random init")
    for task in tasks():
        yield from adapt(bases, task, Method.probe, labels(task), TEST, SEEDS, beside=True)
        if full:
            few = [FINETUNED]
            yield from adapt(bases, task, Method.finetune, few, TEST, SEEDS, settings=FINETUNING)
        console.print(f"  {task.name} done")


def samples(base: Base) -> tuple[list[page.Text], list[page.Picture]]:
    """A continuation of each prompt, and digits from nothing."""
    texts = [
        page.Text(
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
    pictures = [page.Picture(f"drawn, seed {i}", g) for i, g in enumerate(grids)]
    for record in DigitsConfig(first=DIGITS, last=DIGITS + FILLED).records():
        assert isinstance(record, Record)
        pictures.append(page.Picture(f"a {record.label}, held out", record.raw))
        pictures.append(page.Picture("its lower half filled in", filled(base, record.raw)))
    return texts, pictures


def filled(base: Base, picture: Any) -> Any:
    """A picture whose second half of patches the base tells from the first, the likeliest each."""
    codec = base.codecs["image"]
    sample, whole = codec.encode(picture), prompts("image", codec, [picture])
    half = 1 + len(sample.values) // 2  # the start stands before
    choose, given = SamplingConfig(temperature=0).build(), whole.map(lambda x: x[:, :half])
    told = torch.cat([*generate(base.model, given, whole.position[0, half:], choose)], dim=1)
    values = np.concatenate([sample.values[: half - 1], told[0].numpy()])
    return codec.decode(values, sample.grid)


def curves(run: Run, bits: Sequence[Measured]) -> list[Curve]:
    """What every source's loss did, with the n-grams as lines."""
    journal = read(run.folder / "metrics.jsonl")
    return [
        Curve(
            source,
            run.stores[source].unit,
            training=_points(journal, "bits", term),
            held_out=_points(journal, "validation_bits", term),
            lines={b.baseline: b.other for b in bits if b.source == source},
        )
        for term, source in run.likelihoods().items()
    ]


def tables(run: Run, bits: Sequence[Measured]) -> list[page.Likelihood]:
    """The likelihoods, source by source."""
    found = []
    for source, group in groupby(bits, key=lambda b: b.source):
        rows = list(group)
        lines = [page.Baseline(b.baseline, b.other, b.difference, b.low, b.high) for b in rows]
        found.append(page.Likelihood(source, run.stores[source].unit, rows[0].base, lines))
    return found


def facts(run: Run, base: Base, seconds: float, valid: Sequence[Validity]) -> dict[str, str]:
    """How the numbers came about, and what they cost."""
    machine = run.config.machine
    places = sum(m.rows * m.length for m in run.config.data.sources.values())
    seen = places * run.config.train.steps
    inside = sum(p.numel() for p in base.model.towers.parameters())
    threads = run.environment()["threads"]
    shares = "; ".join(f"{v.model} {v.valid:.1%} ({v.low:.1%} to {v.high:.1%})" for v in valid)
    return {
        "command": "make demo",
        "training": f"{run.config.train.steps} steps, {seen:,} places in {seconds:.0f} s",
        "cost": f"about {6 * inside * seen:.1e} FLOP in the layers (6 a weight and place)",
        "energy": f"about {WATTS * threads * seconds / 3600:.1f} Wh (estimate: {WATTS} W a thread)",
        "machine": f"{machine.device}, {machine.precision}, compile {machine.compile}",
        "valid molecules": f"{shares}; of {DRAWN} each, at temperature 1",
        "new molecules": f"{valid[0].novel:.1%} of the base's different valid ones",
        "tasks": f"fixed in demo/tasks.py: {SEEDS} splits, labels {LABELS} and {MANY}",
        **{k: str(v) for k, v in run.environment().items() if k not in ("data", "speeds")},
    }


def show(
    transfer: Sequence[Comparison], bits: Sequence[Measured], valid: Sequence[Validity]
) -> None:
    """All tables on stdout."""
    title = "frozen probes: accuracy, or R2 where the label is a number"
    gains = _table(title, "task", "labels", "random", "base", "gain", "95 %", "classical")
    for (task, method), group in groupby(transfer, key=lambda t: (t.task, t.method)):
        name = f"{task}, tuned" if method == Method.finetune else task
        for t in group:
            mean, low, high = t.gain
            best = "" if t.best is None else f"{np.mean(t.classical[t.best]):.3f}"
            scores = (f"{np.mean(t.random):.3f}", f"{np.mean(t.pretrained):.3f}")
            span = f"{low:+.3f} {high:+.3f}"
            gains.add_row(name, str(t.labels), *scores, f"{mean:+.3f}", span, best)
        gains.add_section()
    nats = _table("bits, held out", "source", "baseline", "bits", "base", "differs", "95 %")
    for b in bits:
        two, span = (f"{b.other:.3f}", f"{b.base:.3f}"), f"{b.low:+.3f} {b.high:+.3f}"
        nats.add_row(b.source, b.baseline, *two, f"{b.difference:+.3f}", span)
    drawn = _table(f"of {DRAWN} molecules drawn", "model", "valid", "95 %", "unique", "new")
    for v in valid:
        span = f"{v.low:.3f} {v.high:.3f}"
        drawn.add_row(v.model, f"{v.valid:.3f}", span, f"{v.unique:.3f}", f"{v.novel:.3f}")
    for table in (gains, nats, drawn):
        Terminal().table(table)


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))


def _points(journal: Sequence[dict[str, Any]], key: str, term: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key][term]) for row in journal if term in row.get(key, {})]
