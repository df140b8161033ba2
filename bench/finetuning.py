"""Settings of fine-tuning, tried on labels that no task has: what RDKit computes of the molecules.

python bench/finetuning.py RUN [--steps 80] [--lr 1e-3 2e-3] [--seeds 3]

The molecules are those of solubility, with its scaffold splits; the labels are descriptors that the
base was not taught. Prints the mean R2 of the base and of random init over labels and splits.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
from rdkit import Chem
from rdkit.Chem import Descriptors

from broadbase.adapt.compare import compare
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.task import Task
from broadbase.demo.tasks import molecule_property
from broadbase.weights.folder import load

TEST = 500  # most held-out records
UNTAUGHT = ("qed", "BalabanJ")


def labelled(name: str) -> Task:
    """The molecules of solubility with a descriptor as label; beyond 5 deviations it is cut."""
    task = molecule_property("solubility")
    values = np.array([getattr(Descriptors, name)(Chem.MolFromSmiles(raw)) for raw in task.raws])
    bounds = values.mean() - 5 * values.std(), values.mean() + 5 * values.std()
    return replace(task, name=name, labels=values.clip(*bounds))


def main() -> None:
    """Each setting on each label."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, nargs="+", default=[80])
    parser.add_argument("--lr", type=float, nargs="+", default=[1e-3, 2e-3])
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    base = load(options.run / "model")
    tasks = [labelled(name) for name in UNTAUGHT]
    for steps, lr in itertools.product(options.steps, options.lr):
        settings = FinetuneConfig(steps=steps, lr=lr)
        few = [options.labels]
        results = [compare(base, task, settings, few, TEST, options.seeds)[0] for task in tasks]
        rows = [result.random_init for result in results]
        mean = [f"{row.model:.3f} {row.other:.3f}" for row in rows]
        both = np.mean([row.model for row in rows]), np.mean([row.other for row in rows])
        print(
            f"steps {steps}, lr {lr:g}: base {both[0]:.3f}, random init {both[1]:.3f}",
            *(f"{f.task} {m}" for f, m in zip(results, mean, strict=True)),
            sep="; ",
            flush=True,
        )


if __name__ == "__main__":
    main()
