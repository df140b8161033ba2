"""Act one: pretrain a base on four kinds of data, and look at what it has learned."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from broadbase.adapt.compare import compare
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.result import TaskResult
from broadbase.core.sources import Record
from broadbase.data.samples.builtin import DigitsConfig
from broadbase.demo.molecules import MOLECULES, NOVEL, VALID, molecules
from broadbase.demo.tasks import digit, molecule_property
from broadbase.evaluate.likelihood import likelihoods
from broadbase.evidence.comparison import Comparison
from broadbase.inference.autoregressive import SamplingConfig, generate
from broadbase.inference.base import Base
from broadbase.inference.documents import prompts
from broadbase.recipes import mixed
from broadbase.recipes.mixed import DIGITS
from broadbase.report.curves import Curve
from broadbase.report.samples import Drawing, Picture, Text
from broadbase.run.run import Run
from broadbase.train.metrics_log import read
from broadbase.weights.folder import load

DEPTH, STEPS = 4, 450
LABELS, TEST, SPLITS = 100, 200, 3  # of the tasks of pictures and molecules
COMPLETED = 4  # held-out digits whose lower half is generated
WATTS = 12  # a busy core of a server, with its part of the rest: an estimate
PROMPTS = {"text": "The city of", "code": "def read_file(path):\n"}
SAMPLING = SamplingConfig(temperature=0.8, top_p=0.95)


@dataclass(frozen=True)
class Made:
    """A base that was pretrained here, and what it can do."""

    run: Run
    base: Base
    seconds: float  # of pretraining, by the clock
    bits: Sequence[Comparison]
    chemistry: Sequence[Comparison]
    tasks: Sequence[TaskResult]
    texts: Sequence[Text]
    pictures: Sequence[Picture]
    drawings: Sequence[Drawing]

    @property
    def parameters(self) -> int:
        """The number of parameters of the base."""
        return sum(p.numel() for p in self.base.model.parameters())

    @property
    def tokens(self) -> int:
        """The number of tokens that the base was trained on."""
        sources = self.run.config.data.sources.values()
        per_step = sum(mixed.batch_size * mixed.row_length for mixed in sources)
        return per_step * self.run.config.train.steps


def make(out: Path, steps: int, console: Console) -> Made:
    """Pretrain a base in the run folder `out`, without labels, and measure it."""
    console.print(f"  pretraining {steps} steps on four kinds of data, without labels")
    started = time.monotonic()
    config = mixed.build(DEPTH, None)
    config = config.replace(train=config.train.replace(steps=steps, samples=0))
    run = Run.create(config, out, console)
    run.train(console)
    seconds = time.monotonic() - started
    base = load(run.folder / "model")
    console.print("  comparing with n-grams on held-out data, and generating")
    bits = list(likelihoods(run, base))
    texts, pictures = samples(base)
    chemistry, drawings = molecules(run, base)
    console.print(f"  adapting to pictures and molecules, {LABELS} labels, {SPLITS} splits")
    tasks = list(_tasks(base))
    return Made(run, base, seconds, bits, chemistry, tasks, texts, pictures, drawings)


def _tasks(base: Base) -> Iterator[TaskResult]:
    """Yield the results of tasks that are not of text, by a probe of the frozen base."""
    for task in (digit(), molecule_property("freesolv"), molecule_property("solubility")):
        yield from compare(base, task, ProbeConfig(), [LABELS], TEST, SPLITS, features=True)


def samples(base: Base) -> tuple[list[Text], list[Picture]]:
    """Generate a continuation of each prompt, and digits from nothing and from their upper half."""
    texts = [
        Text(
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
    pictures = [Picture(f"generated, seed {i}", image) for i, image in enumerate(images)]
    for record in DigitsConfig(first=DIGITS, last=DIGITS + COMPLETED).records():
        assert isinstance(record, Record)
        pictures.append(Picture(f"a {record.label}, held out", record.raw))
        pictures.append(Picture("its lower half generated", complete(base, record.raw)))
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


def facts(made: Made) -> dict[str, str]:
    """Return how the numbers of the base were made, and what they cost."""
    run, machine = made.run, made.run.config.machine
    threads = run.environment()["threads"]
    valid = [row for row in made.chemistry if row.metric == VALID]
    shares = "; ".join(f"{row.baseline} {row.other:.1%}" for row in valid)
    novel = next(row.model for row in made.chemistry if row.metric == NOVEL)
    energy = WATTS * threads * made.seconds / 3600
    return {
        "training": f"{run.config.train.steps} steps, {made.tokens:,} tokens in"
        f" {made.seconds:.0f} s",
        "energy": f"about {energy:.1f} Wh (estimate: {WATTS} W a thread)",
        "machine": f"{machine.device}, {machine.precision}, compile {machine.compile}",
        "valid molecules": f"model {valid[0].model:.1%}; {shares}; of {MOLECULES} each, at"
        " temperature 1",
        "novel molecules": f"{novel:.1%} of the model's different valid ones",
        **{k: str(v) for k, v in run.environment().items() if k not in ("data", "speeds")},
    }


def _points(journal: Sequence[dict[str, Any]], key: str, term: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key][term]) for row in journal if term in row.get(key, {})]
