"""Training a copy of a base for an adaptation method, by the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from broadbase.core.contracts import Batch, Corruption, Objective
from broadbase.core.errors import DivergedError
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from broadbase.train.config import TrainConfig
from broadbase.train.loop import Trainer
from broadbase.train.machine import MachineConfig
from broadbase.train.metrics_log import MetricsLog
from broadbase.train.optim import Optim
from broadbase.train.ranks import Ranks
from broadbase.train.schedule import CosineConfig


@dataclass(frozen=True)
class Budget:
    """How long a method trains, and what its errors say."""

    steps: int
    lr: float  # the peak learning rate, which an error names
    device: str
    what: str  # the training, as a noun: "fine-tuning"


def grown(base: Base, config: ModelConfig, seed: int, share: bool = False) -> Base:
    """Return a copy of the base as a model of `config`, in 32-bit floats on the CPU.

    It has all parts of the base and maybe more, whose parameters are initialised from `seed`. To
    `share` is to have no copies of parameters that are such floats there: do not train these.
    """
    with torch.device("meta"):  # what the base has needs no memory of its own
        model = config.build()
    wanted = model.state_dict()
    weights = {
        name: tensor.to("cpu", wanted[name].dtype, copy=not share)
        for name, tensor in base.model.state_dict().items()
        if name in wanted
    }
    missing = wanted.keys() - weights.keys()
    if missing & dict(model.named_buffers()).keys():  # they start as their module says
        model = config.build()
    new = {name: torch.empty(wanted[name].shape, dtype=wanted[name].dtype) for name in missing}
    parameters = {name: new[name] for name, _ in model.named_parameters() if name in new}
    model.load_state_dict(weights | parameters, strict=False, assign=True)
    initialise(model, seed, missing)
    return replace(base, config=config, model=model)


def train_steps(
    model: Model,
    objective: Objective,
    optim: Optim,
    batches: Callable[[int], Iterable[Batch]],
    budget: Budget,
    done: Done,
    corrupt: Mapping[str, Corruption] | None = None,
) -> list[float]:
    """Train a model in place and call `done(1)` after every step; return the loss of each step.

    The process multiplies as before, so that it predicts as a process does that loads the result.
    DivergedError, which names the learning rate, where a loss or gradient is not finite.
    """
    journal = Steps(done)
    matmul: Any = "onednn" if torch.get_float32_matmul_precision() == "medium" else "torch"
    machine = MachineConfig(device=budget.device, precision="fp32", compile="off", matmul=matmul)
    trainer = Trainer(
        config=TrainConfig(steps=budget.steps, evaluate_every=budget.steps),
        model=model.to(budget.device),
        objective=objective,
        corrupt=corrupt or {},
        optim=optim,
        schedule=CosineConfig(warmup=budget.steps // 10),
        machine=machine,
        ranks=Ranks(torch.device(budget.device)),
        journal=journal,
        batches=batches,
        validation=lambda: (),
    )
    try:
        trainer.train()
    except DivergedError as error:
        what = str(error).partition(". The step")[0]
        raise DivergedError(
            f"{budget.what} diverged at {what}. Lower its learning rate, which is {budget.lr:g}"
            f" (--set lr={budget.lr / 10:g}), or look at the records"
        ) from None
    model.eval()
    return journal.losses


class Steps(MetricsLog):
    """Counts the steps of a training, keeps their losses and writes nothing."""

    def __init__(self, done: Done) -> None:
        """Take the function to call after every step."""
        super().__init__()
        self._done = done
        self.losses: list[float] = []

    def stepped(self, step: int, losses: Mapping[str, float], *args: Any) -> None:
        """Keep the sum of the terms, and call `done`."""
        self.losses.append(sum(losses.values()))
        self._done(1)
