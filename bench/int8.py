"""Do products of 8-bit numbers train? Held-out loss and CPU time of a step, beside fp32.

    python bench/int8.py [--depth 4] [--steps 300] [--seeds 5]

The recipe `code` on the standard library of the running Python. In every linear map of the layers
the product forward and that for the inputs' gradient are of 8-bit numbers, the weights' gradient is
in fp32 (Wortsman et al. 2023, SwitchBack), with a scale for each row of the one side and each
column of the other. Embeddings, the head and attention stay in fp32. A round is a seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function

from broadbase.core.preload import relaunch
from broadbase.recipes import code
from broadbase.run.run import Run
from broadbase.train.metrics_log import MetricsLog
from machine import Row, description, tell

TINY = 1e-12  # stands for 0 where one divides
BAR = 1.01  # of the loss


def full(x_MK: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as 8-bit numbers, and the scale of each [M,1]."""
    scale_M1 = x_MK.abs().amax(dim=1, keepdim=True).clamp(min=TINY) / 127
    return (x_MK / scale_M1).round().to(torch.int8), scale_M1


def product(a_MK: Tensor, b_NK: Tensor) -> Tensor:
    """a b^T [M,N] of both in 8 bits."""
    (a, scale_M1), (b, scale_N1) = full(a_MK), full(b_NK)
    return torch._int_mm(a, b.T).float().mul_(scale_M1).mul_(scale_N1.T)


class SwitchBack(Function):
    """x W^T: forward and the inputs' gradient in 8 bits."""

    @staticmethod
    def forward(context: Any, x_MK: Tensor, weight_FK: Tensor) -> Tensor:
        context.save_for_backward(x_MK, weight_FK)
        return product(x_MK, weight_FK)

    @staticmethod
    def backward(context: Any, *grad: Tensor) -> tuple[Tensor, Tensor]:
        (x_MK, weight_FK), (grad_MF,) = context.saved_tensors, grad
        return product(grad_MF, weight_FK.T), grad_MF.T @ x_MK


class Int8Linear(nn.Linear):
    """A linear map trained so."""

    def forward(self, x: Tensor) -> Tensor:
        """[...,K] to [...,F]."""
        y = SwitchBack.apply(x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])
        return y if self.bias is None else y + self.bias


def trained(run: Run, eight_bit: bool) -> tuple[float, float]:
    """Held-out nats per token, and CPU seconds a step."""
    trainer = run.trainer(MetricsLog())
    towers = cast(nn.Module, trainer.model.towers)
    for module in [*towers.modules()] if eight_bit else ():
        if type(module) is nn.Linear:
            module.__class__ = Int8Linear
    began = time.process_time()
    trainer.train()
    seconds = (time.process_time() - began) / run.config.train.steps
    trainer.validation = lambda: run.held_out(run.config.data.final_rows)
    (loss,) = trainer.evaluate().values()
    return loss, seconds


def main() -> None:
    """Two rows: the loss, and the time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(description(), "1 thread, CPU time", sep=", ", flush=True)
    result: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as name:
        config = code.build(options.depth, "sample:python")
        few = {"validation_rows": 1, "final_rows": 256, "store": str(Path(name) / "store")}
        train = config.train.replace(steps=options.steps, evaluate_every=10**9)
        update = {"data": config.data.replace(**few), "train": train}
        config.machine.prepare()
        for seed in range(options.seeds):
            for eight_bit, runs in result.items():
                out = Path(name) / f"{seed}-{eight_bit}"
                run = Run.create(config.replace(**update, seed=seed), out)
                runs.append(trained(run, eight_bit))
                print(f"seed {seed}, 8 bits {eight_bit}: {runs[-1]}", file=sys.stderr, flush=True)
    (losses, times), (reference, slower) = (
        tuple(zip(*result[kind], strict=True)) for kind in result
    )
    work = f"trained {options.steps} steps at depth {options.depth} with 8-bit products"
    tell(
        [
            Row(f"held-out loss, {work}", losses, reference, "nats", "fp32", BAR, higher=False),
            Row(f"CPU time of a step, {work}", times, slower, "s", "fp32", 1.0, higher=False),
        ]
    )


if __name__ == "__main__":
    relaunch("pretrain")
    main()
