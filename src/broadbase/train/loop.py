"""The loop: batches in, a trained model out; it knows no modality and no objective.

loss = sum over terms of scale * total / weight, with totals and weights taken over the entire
global batch. Every micro-batch on every rank is differentiated against the same weights, so the
gradient is that of one big batch however it is cut; where its rows depend on each other (a
contrastive loss), in two passes.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from broadbase.core.contracts import Batch, Corruption, Objective
from broadbase.core.errors import ConfigError, DivergedError, PreemptedError
from broadbase.core.loss import Loss, TermWeight, combine
from broadbase.core.view import Output, View
from broadbase.train.checkpoint import Checkpoint
from broadbase.train.config import TrainConfig
from broadbase.train.grad_cache import join, leaves, pull
from broadbase.train.identity import Change, changed
from broadbase.train.machine import MachineConfig
from broadbase.train.metrics_log import MetricsLog
from broadbase.train.optim import Optim
from broadbase.train.ranks import Ranks, clip, named
from broadbase.train.saver import Saver
from broadbase.train.schedule import ScheduleConfig
from broadbase.train.teacher import Teacher


def ignored(step: int) -> None:
    """Do nothing after an evaluation."""


@dataclass
class Trainer:
    """All that a run needs; `train` moves it forward."""

    config: TrainConfig
    model: nn.Module
    objective: Objective
    corrupt: Mapping[str, Corruption]
    optim: Optim
    schedule: ScheduleConfig
    machine: MachineConfig
    ranks: Ranks
    journal: MetricsLog
    batches: Callable[[int], Iterable[Batch]]  # from a step on
    validation: Callable[[], Iterable[Batch]]
    teacher: Teacher = field(default_factory=Teacher)
    saver: Saver | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)  # what a resume must find unchanged
    evaluated: Callable[[int], None] = ignored  # after each evaluation, with its step
    step: int = 0

    def __post_init__(self) -> None:
        """Refuse objectives that the machine's settings do not allow."""
        if self.objective.batch_coupled and self.machine.tensor_parallel > 1:
            raise ConfigError(
                "machine.tensor_parallel: the rows of this objective depend on each other, and"
                " ranks that share matrices have the same rows; set machine.tensor_parallel=1"
            )
        self.machine.prepare()
        self.machine.compiled(self.model)

    @property
    def final_model(self) -> nn.Module:
        """Return the model, or a teacher that is better than it."""
        return self.teacher.final_model or self.model

    def train(self) -> None:
        """Train to the last step; save, evaluate and report on the way and at the end.

        DivergedError before the step of a loss or gradient that is not finite; PreemptedError,
        after saving, when SIGTERM or SIGINT stops it; without a saver these act as usual.
        """
        with stop_signals(self.saver is not None) as stop, self.saver or nullcontext():
            for batch in self.batches(self.step):
                self._advance(batch)
                done = self.step == self.config.steps
                stopped = self.ranks.any(stop.is_set)
                if done or self.step % self.config.evaluate_every == 0:
                    self.journal.evaluated(self.step, self.evaluate())
                    self.evaluated(self.step)
                if done or stopped or self.step % self.config.save_every == 0:
                    self.save()
                if stopped and not done:
                    raise PreemptedError(f"stopped after step {self.step}")

    def _advance(self, batch: Batch) -> None:
        start = time.perf_counter()
        views = self.objective.views(batch, self.corrupt)
        totals, shares = self.accumulate(views)
        losses = {name: totals[name] / shares[name].weight for name in shares}
        norm = self._clip()
        self._refuse_non_finite(losses, norm)
        done = self.step / self.config.steps
        self.optim.step(self.schedule.factor(self.step, self.config.steps), done)
        self.model.update_statistics(self.ranks.sum)  # type: ignore[operator]
        watched = self.teacher.update(self.model, self.step, self.config.steps, self.ranks.sum)
        self.step += 1
        tokens = sum(share.weight for share in shares.values())
        seconds = time.perf_counter() - start
        self.journal.stepped(self.step, losses, norm, tokens, seconds, watched)

    def accumulate(self, views: Sequence[View]) -> tuple[dict[str, float], dict[str, TermWeight]]:
        """Add the gradient of these views to the parameters; return totals and global shares."""
        shares, totals = self._global_shares(views), dict[str, float]()
        coupled = self.objective.batch_coupled and self.config.micro_batches > 1
        for loss in (self._two_passes if coupled else self._one_pass)(views, shares):
            for name, total in loss.items():
                totals[name] = totals.get(name, 0.0) + float(total.detach())
        return self.ranks.add(totals), shares

    def _pieces(self, views: Sequence[View]) -> list[list[View]]:
        """Cut the views into micro-batches."""
        n, size = self.config.micro_batches, min(view.size for view in views)
        if n > size:
            raise ConfigError(
                f"train.micro_batches={n} is more than the {size} rows a step of the smallest"
                " source; use fewer micro-batches or more rows"
            )
        return [
            [view.rows(view.size * i // n, view.size * (i + 1) // n) for view in views]
            for i in range(n)
        ]

    def _one_pass(self, views: Sequence[View], shares: Mapping[str, TermWeight]) -> Iterator[Loss]:
        """Yield the loss of each piece: its part of the gradient does not depend on other rows."""
        for piece in self._pieces(views):
            micro, outputs = self._outputs(piece)
            with self.machine.autocast():
                loss = {**self.objective.loss(outputs, micro), **aux_losses(outputs)}
            self._weighted(loss, shares).backward()  # type: ignore[no-untyped-call]
            yield loss

    def _two_passes(
        self, views: Sequence[View], shares: Mapping[str, TermWeight]
    ) -> Iterator[Loss]:
        """Compute the outputs of all pieces first, then the gradient of each piece from all."""
        pieces = self._pieces(views)
        with torch.no_grad():
            owed = [[leaves(output) for output in self._outputs(piece)[1]] for piece in pieces]
        with self.machine.autocast():
            joined = [join(each) for each in zip(*owed, strict=True)]
            loss = self.objective.loss(joined, [view.to(self.ranks.device) for view in views])
        self._weighted(loss, shares).backward()  # type: ignore[no-untyped-call]
        yield loss
        for piece, each in zip(pieces, owed, strict=True):
            _, outputs = self._outputs(piece)
            charged, total = aux_losses(outputs), pull(outputs, each)
            total = total + self._weighted(charged, shares) if charged else total
            total.backward()  # type: ignore[no-untyped-call]
            yield charged

    def _outputs(
        self, views: Sequence[View], model: Callable[..., Output] | None = None
    ) -> tuple[list[View], list[Output]]:
        """Move the views to the model's device; return them and their outputs."""
        forward = model or self.model
        here = [view.to(self.ranks.device) for view in views]
        with self.machine.autocast():
            return here, [self.teacher.answer(v) if v.teacher else forward(v) for v in here]

    def _weighted(self, loss: Loss, shares: Mapping[str, TermWeight]) -> Tensor:
        """Return what to differentiate: FSDP averages over ranks, and global weights need a sum."""
        return combine(loss, shares) * self.ranks.data_world_size

    def _global_shares(self, views: Sequence[View]) -> dict[str, TermWeight]:
        local = {**self.objective.term_weights(views), **self.model.aux_loss_weights(views)}  # type: ignore[operator]
        weights = self.ranks.add({name: share.weight for name, share in local.items()})
        return {name: TermWeight(weights[name], share.scale) for name, share in local.items()}

    def _clip(self) -> float:
        limit = math.inf if self.config.grad_clip is None else self.config.grad_clip
        return clip(self.model, limit)

    def _refuse_non_finite(self, losses: Mapping[str, float], norm: float) -> None:
        bad = [f"the loss of {k} is {v}" for k, v in losses.items() if not math.isfinite(v)]
        if not math.isfinite(norm):
            bad.append(f"the norm of the gradient is {norm}")
        if bad:
            raise DivergedError(
                f"step {self.step + 1}: {'; '.join(bad)}. The step was not taken; a lower learning"
                " rate, a longer warm-up or other data may help"
            )

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Compute the mean loss of every term on the validation batches, in nats per token.

        It is that of the model that is kept; where that teaches, of its student.
        """
        modules = (self.model, self.final_model)
        for module in modules:
            module.eval()
        totals: dict[str, float] = {}
        weights: dict[str, float] = {}
        for batch in self.validation():
            views = self.objective.views(batch, self.corrupt)
            apart = self.final_model is not self.model and not any(view.teacher for view in views)
            here, outputs = self._outputs(views, self.final_model if apart else self.model)
            with self.machine.autocast():
                loss = self.objective.loss(outputs, here)
            for name, share in self.objective.term_weights(views).items():
                totals[name] = totals.get(name, 0.0) + float(loss[name])
                weights[name] = weights.get(name, 0.0) + share.weight
        for module in modules:
            module.train()
        return {name: total / weights[name] for name, total in totals.items() if weights[name]}

    def save(self) -> None:
        """Keep everything that the rest of the run depends on; written while the loop goes on."""
        if self.saver is not None:
            groups = {**self._held(), "optim": self.optim.state()}
            self.saver.save(self.step, groups, self.identity)

    def _held(self) -> dict[str, Mapping[str, Tensor]]:
        """Return all that moves except the optimiser's state, as it lies in memory, by file."""
        teacher = self.teacher.state()
        return {"model": named(self.model), **({"teacher": teacher} if teacher else {})}

    def restore(self, saved: Checkpoint) -> dict[str, Change]:
        """Go on from a checkpoint; return the settings that differ from those that wrote it.

        ConfigError names those that must not.
        """
        if saved.step > self.config.steps:
            raise ConfigError(
                f"train.steps={self.config.steps}: {saved.path} has taken {saved.step} steps"
                " already; give as many or more"
            )
        changes = changed(saved.identity, self.identity, str(saved.path))
        state = self.optim.empty_state({name: each.size for name, each in saved.tensors.items()})
        held = (*self._held().values(), state)
        saved.load({name: value for each in held for name, value in each.items()})
        self.optim.load(state)
        self.step = saved.step
        self.journal.rewind(self.step)
        return changes


class Stop:
    """Set once the process receives a signal to stop."""

    is_set = False


def aux_losses(outputs: Sequence[Output]) -> dict[str, Tensor]:
    """Return the auxiliary losses of all outputs, a total for each term."""
    totals: dict[str, Tensor] = {}
    for output in outputs:
        for name, loss_B in output.aux_losses.items():
            totals[name] = totals[name] + loss_B.sum() if name in totals else loss_B.sum()
    return totals


@contextmanager
def stop_signals(caught: bool = True) -> Iterator[Stop]:
    """Let SIGTERM and SIGINT only set a flag; a second one, or one not `caught`, acts as
    usual."""
    stop = Stop()
    old: dict[int, Any] = {}

    def note(number: int, _: object) -> None:
        stop.is_set = True
        signal.signal(number, old[number])

    for wanted in (signal.SIGTERM, signal.SIGINT) if caught else ():
        old[wanted] = signal.signal(wanted, note)
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
