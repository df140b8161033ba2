"""The demo from nothing to a report: pretrain a model, adapt it to six tasks, generate samples."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from broadbase.adapt.compare import compare
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.result import TaskResult
from broadbase.core.errors import ConfigError
from broadbase.core.sources import Record
from broadbase.data.samples.builtin import DigitsConfig
from broadbase.demo.molecules import MOLECULES, NOVEL, VALID, molecules
from broadbase.demo.tasks import MANY, SPLITS, TEST, TRAIN_SIZES, tasks, train_sizes
from broadbase.evaluate.likelihood import likelihoods
from broadbase.evidence.comparison import Comparison
from broadbase.inference.autoregressive import SamplingConfig, generate
from broadbase.inference.base import Base
from broadbase.inference.documents import prompts
from broadbase.recipes import mixed
from broadbase.recipes.mixed import DIGITS
from broadbase.report import page
from broadbase.report.charts import Curve
from broadbase.report.tables import print_comparisons
from broadbase.run.run import Run
from broadbase.train.metrics_log import read
from broadbase.weights.folder import load

DEPTH, STEPS = 4, 900
SEEDS = 3  # pretraining seeds of the full study
FINETUNED = 100  # labels
FINETUNING = FinetuneConfig(steps=160, lr=2e-3)  # chosen on labels of no task: bench/finetuning.py
COMPLETED = 4  # held-out digits whose lower half is generated
WATTS = 12  # a busy core of a server, with its part of the rest: an estimate
PROMPTS = {"text": "The city of", "code": "def read_file(path):\n"}
SAMPLING = SamplingConfig(temperature=0.8, top_p=0.95)


def demo(out: Path, console: Console, steps: int = STEPS, full: bool = False) -> None:
    """Pretrain on four kinds of data; probe six tasks against random init and hand-made features.

    `full` pretrains under three seeds and fine-tunes as well, which takes about an hour. All
    numbers go to `out`/results.json, a page to `out`/report.html; the tables are printed to stdout.
    ConfigError where `out` exists.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already; delete it, or give another --out")
    started = time.monotonic()
    seeds = SEEDS if full else 1
    console.print(f"1/4 pretraining {steps} steps on four kinds of data, without labels")
    runs = [_pretrain(out / f"seed-{s}" if s else out, s, steps, console) for s in range(seeds)]
    seconds = (time.monotonic() - started) / seeds
    run, bases = runs[0], [load(run.folder / "model") for run in runs]
    results = list(_adapt(bases, full, console))
    console.print("3/4 comparing with n-grams on held-out data")
    bits = list(likelihoods(run, bases[0]))
    console.print("4/4 generating samples")
    texts, pictures = samples(bases[0])
    chemistry, drawings = molecules(run, bases[0])
    numbers = {
        "tasks": [result.as_json() for result in results],
        "likelihood": [row.as_json() for row in bits],
        "molecules": [row.as_json() for row in chemistry],
    }
    (out / "results.json").write_text(json.dumps(numbers, indent=1))
    page.write(
        out / "report.html",
        page.Report(
            parameters=sum(p.numel() for p in bases[0].model.parameters()),
            seconds=seconds,
            tasks=results,
            curves=curves(run, bits),
            likelihoods=bits,
            texts=texts,
            pictures=pictures,
            drawings=drawings,
            facts=facts(run, bases[0], seconds, chemistry),
        ),
    )
    show(results, bits, chemistry)
    total = time.monotonic() - started
    console.print(f"report: {out / 'report.html'}   model: {out / 'model'}   {total:.0f} s in all")


def _pretrain(out: Path, seed: int, steps: int, console: Console) -> Run:
    config = mixed.build(DEPTH, None)
    train = config.train.replace(steps=steps)
    config = config.replace(train=train, seed=seed)
    run = Run.create(config, out, console)
    run.train(console)
    return run


def _adapt(bases: Sequence[Base], full: bool, console: Console) -> Iterator[TaskResult]:
    console.print(f"2/4 adapting to six tasks, {SPLITS} splits each, against random init")
    for task in tasks():
        sizes = train_sizes(task)
        yield from compare(bases, task, ProbeConfig(), sizes, TEST, SPLITS, features=True)
        if full:
            few = [FINETUNED]
            yield from compare(bases, task, FINETUNING, few, TEST, SPLITS)
        console.print(f"  {task.name} done")


def samples(base: Base) -> tuple[list[page.Text], list[page.Picture]]:
    """Generate a continuation of each prompt, and digits from nothing and from their upper half."""
    texts = [
        page.Text(
            name,
            prompt,
            base.generate(prompt, modality=name, max_new_tokens=64, sampling=SAMPLING),
            code=name == "code",
        )
        for name, prompt in PROMPTS.items()
    ]
    images = [
        base.generate(modality="image", grid=(4, 4), sampling=SamplingConfig(seed=seed))
        for seed in range(8)
    ]
    pictures = [page.Picture(f"generated, seed {i}", image) for i, image in enumerate(images)]
    for record in DigitsConfig(first=DIGITS, last=DIGITS + COMPLETED).records():
        assert isinstance(record, Record)
        pictures.append(page.Picture(f"a {record.label}, held out", record.raw))
        pictures.append(page.Picture("its lower half generated", complete(base, record.raw)))
    return texts, pictures


def complete(base: Base, image: Any) -> Any:
    """Return an image whose second half of patches the model generates greedily from the first."""
    codec = base.codecs["image"]
    sample, segment = codec.encode(image), prompts("image", codec, [image])
    half = 1 + len(sample.values) // 2  # with the start token
    greedy, prompt = SamplingConfig(temperature=0).build(), segment.map(lambda x: x[:, :half])
    steps = generate(base.model, prompt, segment.position[0, half:], greedy)
    generated = torch.cat([*steps], dim=1)[0].numpy()
    return codec.decode(np.concatenate([sample.values[: half - 1], generated]), sample.grid)


def curves(run: Run, bits: Sequence[Comparison]) -> list[Curve]:
    """Return the loss of every source by step, with the n-grams as lines."""
    journal = read(run.folder / "metrics.jsonl")
    return [
        Curve(
            source,
            run.stores[source].unit,
            training=_points(journal, "bits", term),
            held_out=_points(journal, "validation_bits", term),
            baselines={b.baseline: b.other for b in bits if b.subject == source},
        )
        for term, source in run.likelihoods().items()
    ]


def facts(run: Run, base: Base, seconds: float, chemistry: Sequence[Comparison]) -> dict[str, str]:
    """Return how the numbers were made, and what they cost."""
    machine = run.config.machine
    per_step = sum(m.batch_size * m.row_length for m in run.config.data.sources.values())
    tokens = per_step * run.config.train.steps
    weights = sum(p.numel() for p in base.model.towers.parameters())
    threads = run.environment()["threads"]
    valid = [row for row in chemistry if row.metric == VALID]
    shares = "; ".join(f"{row.baseline} {row.other:.1%}" for row in valid)
    novel = next(row.model for row in chemistry if row.metric == NOVEL)
    return {
        "command": "make demo",
        "training": f"{run.config.train.steps} steps, {tokens:,} tokens in {seconds:.0f} s",
        "cost": f"about {6 * weights * tokens:.1e} FLOP in the layers (6 per weight and token)",
        "energy": f"about {WATTS * threads * seconds / 3600:.1f} Wh (estimate: {WATTS} W a thread)",
        "machine": f"{machine.device}, {machine.precision}, compile {machine.compile}",
        "valid molecules": f"model {valid[0].model:.1%}; {shares}; of {MOLECULES} each, at"
        " temperature 1",
        "novel molecules": f"{novel:.1%} of the model's different valid ones",
        "tasks": f"fixed in demo/tasks.py: {SPLITS} splits, labels {TRAIN_SIZES} and {MANY}",
        **{k: str(v) for k, v in run.environment().items() if k not in ("data", "speeds")},
    }


def show(
    results: Sequence[TaskResult], bits: Sequence[Comparison], chemistry: Sequence[Comparison]
) -> None:
    """Print all tables to stdout: of each task random init and the best features."""
    rows = []
    for (task, method), group in groupby(results, key=lambda r: (r.task, r.method)):
        subject = f"{task}, fine-tuned" if method == FINETUNING.name else task
        for result in group:
            shown = [result.random_init, result.best_features]
            rows += [replace(row, subject=subject) for row in shown if row is not None]
    print_comparisons(rows, "tasks, by a probe of the frozen model")
    print_comparisons(bits, "held-out data")
    print_comparisons(chemistry, f"{MOLECULES} generated molecules")


def _points(journal: Sequence[dict[str, Any]], key: str, term: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key][term]) for row in journal if term in row.get(key, {})]
