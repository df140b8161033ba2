"""Tensor parallel: the matrices of a layer cut over ranks, by what its modules declare."""

from __future__ import annotations

from typing import cast

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from broadbase.core.errors import ConfigError
from broadbase.nn.tensor_parallel import Split, TensorParallel


def split(model: nn.Module, mesh: DeviceMesh) -> None:
    """Cut what declares a `tp_plan` over the ranks of `mesh`, in place; the rest is on each rank.

    Between its first and last matrix a layer then computes a part of its heads or channels, and
    sums at its end. ConfigError, before anything is cut, where something cannot be split.
    """
    parts = [(k, m) for k, m in model.named_modules() if isinstance(m, TensorParallel)]
    for name, module in parts:
        if module.unsplittable:
            raise ConfigError(
                f"machine.tensor_parallel: {name} {module.unsplittable} and cannot be split; set"
                " machine.tensor_parallel=1"
            )
    for name, module in parts:
        if module.tp_plan:
            _must_divide(name, module, mesh.size())
            plan = {part: _style(how) for part, how in module.tp_plan.items()}
            parallelize_module(cast(nn.Module, module), mesh, plan)


def _style(how: Split) -> ParallelStyle:
    match how:
        case "outputs":
            return ColwiseParallel()
        case "inputs":
            return RowwiseParallel()
        case "heads":  # [B,H,T,E]: the gradient of what all heads share is summed over the ranks
            return SequenceParallel(sequence_dim=1, use_local_output=True)


def _must_divide(name: str, module: TensorParallel, ranks: int) -> None:
    """Refuse a cut that would part a head, or give ranks unlike numbers of them."""
    unit = module.head_dim
    for part, how in module.tp_plan.items():
        matrix = getattr(module, part)
        if how == "outputs" and matrix.out_features % (ranks * unit):
            kind = f"{matrix.out_features // unit} heads" if unit > 1 else f"{matrix.out_features}"
            raise ConfigError(
                f"machine.tensor_parallel={ranks} does not divide the {kind} of {name}.{part};"
                " choose a divisor"
            )
