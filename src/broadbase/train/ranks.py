"""One process or many: the loop calls Ranks and does not know which.

Under `torchrun` every block is sharded by itself and the rest as one group (FSDP2); where
`machine.tensor_parallel` ranks share the matrices of a layer, they read the same rows. Alone, all
of this is the identity.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from broadbase.core.errors import ConfigError
from broadbase.train.machine import MachineConfig, blocks
from broadbase.train.rendezvous import join_world
from broadbase.train.tensor_parallel import split

T = TypeVar("T")


class Ranks:
    """This process among its peers."""

    def __init__(self, device: torch.device, machine: MachineConfig | None = None) -> None:
        """Join the other ranks, where there are any."""
        self.device, self.machine = device, machine or MachineConfig()
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        tensor = self.machine.tensor_parallel
        if self.world % tensor:
            raise ConfigError(
                f"machine.tensor_parallel={tensor} does not divide the {self.world} ranks; start a"
                f" multiple of {tensor} with torchrun, or set machine.tensor_parallel=1"
            )
        self.data_rank, self.data_world_size = (
            self.rank // tensor,
            self.world // tensor,
        )  # of every step's rows
        self.meeting = join_world(device, self.machine.timeout) if self.world > 1 else None
        self.peers = self.meeting.peers if self.meeting else None
        self.mesh = self.meeting.mesh(tensor) if self.meeting else None

    @property
    def main(self) -> bool:
        """Return whether this process writes files and talks to the user."""
        return self.rank == 0

    def shard(self, model: nn.Module, *, trained: bool = True) -> None:
        """Spread the parameters over the ranks, in place.

        A model that is not `trained` has no backward pass: it lets go of them after each forward.
        """
        if self.mesh is None:
            return
        if self.machine.tensor_parallel > 1:
            split(model, self.mesh["tensor"])
        mesh = self.mesh["data"]
        for block in blocks(model):
            fully_shard(block, mesh=mesh, mp_policy=self.machine.policy())
        # Spaces stay exact, and with them the residual stream that they begin
        fully_shard(model, mesh=mesh, reshard_after_forward=None if trained else True)

    def add(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Sum each number over the ranks with other rows, in double precision."""
        if self.mesh is None:
            return dict(numbers)
        names = sorted(numbers)
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        total = torch.tensor([numbers[n] for n in names], dtype=dtype, device=self.device)
        dist.all_reduce(total, group=self.mesh.get_group("data"))
        return dict(zip(names, total.tolist(), strict=True))

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the ranks with other rows, in place; return it."""
        if self.mesh is not None:
            dist.all_reduce(tensor, group=self.mesh.get_group("data"))
        return tensor

    def any(self, flag: bool) -> bool:
        """Return whether it is so on any rank."""
        if self.mesh is None:
            return flag
        flags = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def agree(self, decide: Callable[[], T]) -> T:
        """Return on every rank what `decide` gives on the first."""
        message = [decide() if self.main else None]
        self.wait()  # that may take longer than ranks wait for a message
        if self.world > 1:
            dist.broadcast_object_list(message, group=self.peers)
        return cast(T, message[0])

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.meeting is not None:
            self.meeting.wait()

    def watched(self) -> AbstractContextManager[None]:
        """Turn errors in this context, as another rank is gone, into a RankError that names it."""
        return nullcontext() if self.meeting is None else self.meeting.watched()

    def close(self) -> None:
        """Leave the group."""
        if dist.is_initialized():
            dist.destroy_process_group()


def clip(model: nn.Module, limit: float) -> float:
    """Shorten the gradient to the norm `limit` where it is longer; return its norm before."""
    held: dict[DeviceMesh | None, list[Tensor]] = {}  # tensors cut over other ranks do not mix
    for p in (p for p in model.parameters() if p.grad is not None):
        held.setdefault(p.device_mesh if isinstance(p, DTensor) else None, []).append(p)
    norm = math.hypot(*(_norm([p.grad for p in each]) for each in held.values()))
    for each in held.values():
        nn.utils.clip_grads_with_norm_(each, limit, torch.tensor(norm))
    return norm


def _norm(gradients: Sequence[Tensor | None]) -> float:
    norm = nn.utils.get_total_norm([each for each in gradients if each is not None])
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def named(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of this rank by name (each once, where tied)."""
    if isinstance(model, FSDPModule):
        model.reshard()  # a forward without backward keeps the root group gathered
    both = (*model.named_parameters(), *model.named_buffers())
    return {name: value.detach() for name, value in both}


def gather(model: nn.Module) -> dict[str, Tensor]:
    """Gather the parameters and buffers on every rank."""
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value
        for name, value in named(model).items()
    }
