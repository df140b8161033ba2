"""Optimisers: AdamW, and Muon for the hidden matrices with AdamW for the rest.

Legend: M matrices of one shape, R rows, C columns.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import AdamW, Optimizer

from broadbase.core.config import Slot, hint
from broadbase.core.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Parameters = list[tuple[str, nn.Parameter]]
ALIKE: Mapping[str, float] = {}  # shares of the learning rate by parameter: all 1


class OptimConfig(Slot):
    """An optimiser with decoupled weight decay on matrices (Loshchilov & Hutter 2019)."""

    package: ClassVar[str] = "train"
    lr: Positive = 3e-3
    """The peak learning rate of AdamW."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    """The decay rates of AdamW's averages of the gradient and of its square."""
    eps: Positive = 1e-8
    """The number that AdamW adds to the root of the average square, against division by 0."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """How much matrices shrink per step, times the learning rate; vectors do not."""
    freeze_until: dict[str, Share] = Field(default_factory=dict)
    """Parameters by the beginning of their name, with the share of the run for which they stay
    frozen."""

    @abstractmethod
    def build(self, model: nn.Module) -> Optim:
        """Build the optimiser of a model's trainable parameters."""

    def _adamw(self, parameters: Parameters, shares: Mapping[str, float] = ALIKE) -> Optimizer:
        """Build AdamW; a parameter in `shares` learns at that share of the rate."""
        decayed = [(n, p) for n, p in parameters if p.ndim >= 2]
        plain = [(n, p) for n, p in parameters if p.ndim < 2]
        groups: list[dict[str, Any]] = []
        for pairs, decay in ((decayed, self.weight_decay), (plain, 0.0)):
            alike: dict[tuple[Any, float], Parameters] = {}  # they are stepped together
            for name, parameter in pairs:
                key = _mesh(parameter), shares.get(name, 1.0)
                alike.setdefault(key, []).append((name, parameter))
            groups += [
                {"params": some, "weight_decay": decay, "lr": self.lr * share}
                for (_, share), some in alike.items()
            ]
        return AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)


class AdamWConfig(OptimConfig):
    """AdamW for everything."""

    name: Literal["adamw"] = "adamw"

    def build(self, model: nn.Module, shares: Mapping[str, float] = ALIKE) -> Optim:
        """Build AdamW for all trainable parameters; those in `shares` learn at a share of `lr`."""
        return Optim([self._adamw(_trainable(model), shares)], self.freeze_until)


class MuonConfig(OptimConfig):
    """Muon for the matrices inside the towers, AdamW for embeddings, heads, norms and biases."""

    name: Literal["muon"] = "muon"
    muon_lr: Positive = 0.02
    """The peak learning rate of Muon."""
    momentum: Momentum = 0.95
    """The decay rate of Muon's average of the gradient."""

    def build(self, model: nn.Module) -> Optim:
        """Build Muon for the matrices of the towers and AdamW for the rest."""
        matrices = {
            f"{path}.weight"
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear) and path.startswith("towers.")
        }
        parameters = _trainable(model)
        hidden = [(n, p) for n, p in parameters if n in matrices]
        rest = [(n, p) for n, p in parameters if n not in matrices]
        optimisers: list[Optimizer] = []
        if hidden:
            optimisers.append(Muon(hidden, self.muon_lr, self.weight_decay, self.momentum))
        if rest:
            optimisers.append(self._adamw(rest))
        return Optim(optimisers, self.freeze_until)


class Muon(Optimizer):
    """Momentum whose update is made orthogonal (Jordan et al. 2024, Muon).

    torch.optim.Muon does the same in bf16, which CPUs without AMX emulate, and one matrix at a
    time; here it runs in the parameter's precision, on all matrices of one shape together.
    """

    def __init__(self, parameters: Parameters, lr: float, decay: float, momentum: float) -> None:
        """Take the parameters and their settings."""
        super().__init__(parameters, {"lr": lr, "weight_decay": decay, "momentum": momentum})
        self._gathered: tuple[Tensor, ...] = ()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the parameters; matrices of one size are made orthogonal together."""
        for group in self.param_groups:
            alike: dict[object, list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self._momentum(parameter, group["momentum"])
                    alike.setdefault(_cut(parameter), []).append((parameter, update))
            for pairs in alike.values():
                stacked = torch.stack([update for _, update in pairs])
                # gathered on every rank, by one message for all of them
                gathered = stacked.full_tensor() if isinstance(stacked, DTensor) else stacked
                # Gloo's thread may let go of a message's tensors after its result is there; kept
                # until the next message, they are never freed by two threads at once
                self._gathered = (stacked, gathered)
                rows, columns = gathered.shape[1:]
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (parameter, _), update in zip(pairs, orthogonalise(gathered), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(_like(update, parameter), alpha=-scale)

    def _momentum(self, parameter: Tensor, beta: float) -> Tensor:
        """Return Nesterov's look-ahead of the averaged gradient, sharded like the parameter."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - beta)
        return parameter.grad.lerp(state["momentum"], beta)


def orthogonalise(x_MRC: Tensor, steps: int = 5) -> Tensor:
    """Return near matrices with singular values about 1, by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315  # Jordan et al. 2024: steepest at 0
    tall = x_MRC.shape[1] > x_MRC.shape[2]
    x: Tensor = x_MRC.mT if tall else x_MRC
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Optim:
    """Several optimisers as one, with its state as a flat mapping of named tensors."""

    def __init__(self, optimisers: list[Optimizer], hold: Mapping[str, float]) -> None:
        """Take the optimisers, and which parameters stay fixed for which share of the run."""
        self.optimisers, self.hold = optimisers, hold
        self._peaks = [[group["lr"] for group in o.param_groups] for o in optimisers]
        names = [name for _, name, _ in self._named()]
        for beginning in hold:
            if not any(name.startswith(beginning) for name in names):
                raise ConfigError(
                    f"optim.freeze_until: no parameter begins with {beginning!r}"
                    f"{hint(beginning, names)}"
                )

    def step(self, factor: float, done: float = 1.0) -> None:
        """Take a step at `factor` of the peak learning rates, then forget the gradients.

        Parameters that are held until more than `done` of the run stay as they are.
        """
        for _, name, parameter in self._named():
            if any(name.startswith(k) and done < share for k, share in self.hold.items()):
                parameter.grad = None
        for optimiser, peaks in zip(self.optimisers, self._peaks, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Return every state tensor under `parameter/key`, sharded like its parameter."""
        return {
            f"{name}/{key}": value
            for optimiser, name, parameter in self._named()
            for key, value in optimiser.state[parameter].items()
        }

    def empty_state(self, sizes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        """Return zeros of these sizes by `parameter/key`: fill them, then `load` them."""
        parameters = {name: parameter for _, name, parameter in self._named()}
        state = {}
        for path, size in sizes.items():
            parameter = parameters.get(path.rpartition("/")[0])
            if parameter is not None:
                unsharded = size == parameter.shape
                state[path] = (
                    torch.zeros_like(parameter, requires_grad=False)
                    if unsharded
                    else torch.zeros(size, device=parameter.device)
                )
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave; a parameter that had no gradient yet has no state."""
        grouped: dict[str, dict[str, Tensor]] = {}
        for path, value in state.items():
            name, _, key = path.rpartition("/")
            grouped.setdefault(name, {})[key] = value
        for optimiser, name, parameter in self._named():
            optimiser.state[parameter] = grouped.get(name, {})

    def _named(self) -> Iterable[tuple[Optimizer, str, Tensor]]:
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                for name, parameter in zip(group["param_names"], group["params"], strict=True):
                    yield optimiser, name, parameter


def _trainable(model: nn.Module) -> Parameters:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _mesh(parameter: Tensor) -> Any:
    """Return the ranks that a parameter is sharded over."""
    return parameter.device_mesh if isinstance(parameter, DTensor) else None


def _cut(parameter: Tensor) -> object:
    """Return the key that parameters share whose updates are made together."""
    ranks = parameter.placements if isinstance(parameter, DTensor) else None
    return parameter.shape, _mesh(parameter), ranks


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """Shard a full tensor like the parameter it belongs to; every rank has it, none sends it."""
    if isinstance(parameter, DTensor):
        mesh, placements = parameter.device_mesh, parameter.placements
        return distribute_tensor(value, mesh, placements, src_data_rank=None)
    return value.to(parameter.device)
