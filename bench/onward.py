"""Codes added to a trained base: going on from it beside the same model from nothing.

python bench/onward.py BASE TOKENIZER --data sample:asterisk [--depth 3] [--seeds 5] [--steps 300]

BASE is a run on text, TOKENIZER one of an autoencoder with a quantised connector. Both sides have
the same model, data, seeds (rows and the new parameters) and steps; held-out records are told in
bits a code. Intervals: over held-out records, each with the mean of its seeds, and over seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from broadbase.core.config import override
from broadbase.evaluate.likelihood import likelihoods
from broadbase.evidence.comparison import Comparison
from broadbase.evidence.interval import paired_interval
from broadbase.recipes.recipe import find_recipe
from broadbase.recipes.resolve import continue_from
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load

SIDES = ("from text", "from nothing")


def main() -> None:
    """Train what is not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--data", default="sample:asterisk")
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--set", action="append", default=[], help="of both sides' configs")
    parser.add_argument("--folder", type=Path, default=Path("runs/onward"))
    options = parser.parse_args()
    print("| steps | from text | from nothing | difference, 95 % over records | over seeds |")
    print("|---|---|---|---|---|")
    for steps in options.steps:
        result = {
            side: [output(options, side, steps, k) for k in range(options.seeds)] for side in SIDES
        }
        print(row(steps, result), flush=True)
        for side, each in result.items():
            for gram in each[0]:
                print(f"  {side}, seed 0: {gram.model:.3f}; {gram.baseline} {gram.other:.3f}")


def config(options: argparse.Namespace, side: str, steps: int, seed: int) -> RunConfig:
    """The recipe's run on the base, or the same model without it."""
    codes = find_recipe("codes").build(options.depth, options.data)
    recipe = RunConfig.from_tree(continue_from(codes.tree(), str(options.base)))
    tree = recipe.tree() | {"seed": seed}
    settings = [
        f"model.modalities.codes.tokenizer={options.tokenizer}",
        f"train.steps={steps}",
        f"train.evaluate_every={steps}",
        f"data.store={options.folder / 'store'}",
        *options.set,
    ]
    for setting in settings:
        tree = override(tree, setting)
    return RunConfig.from_tree(tree | ({} if side == SIDES[0] else {"init_from": None}))


def output(options: argparse.Namespace, side: str, steps: int, seed: int) -> list[Comparison]:
    """Return the bits per code of the held-out records, against n-grams."""
    folder = options.folder / f"{side.replace(' ', '-')}-{steps}-{seed}"
    if not (folder / "config.yaml").exists():
        Run.create(config(options, side, steps, seed), folder)
    run = Run.open(folder)
    if not (folder / "model").exists():
        run.train()
    return list(likelihoods(run, load(folder)))


def row(steps: int, result: dict[str, list[list[Comparison]]]) -> str:
    """One line of the table."""
    bits = {side: np.array([rows[0].per_item for rows in seeds]) for side, seeds in result.items()}
    ours, other = (bits[side] for side in SIDES)
    return (
        f"| {steps} | {ours.mean():.3f} | {other.mean():.3f} | {gap(ours.mean(0), other.mean(0))} |"
        f" {gap(ours.mean(1), other.mean(1))} |"
    )


def gap(ours: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    """The mean paired difference with its interval."""
    mean, low, high = paired_interval(ours.tolist(), other.tolist())
    return f"{mean:+.3f} ({low:+.3f} {high:+.3f})"


if __name__ == "__main__":
    main()
