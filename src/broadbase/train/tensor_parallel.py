"""Tensor parallel: the matrices of a layer cut over ranks, by what its modules declare."""

from __future__ import annotations

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
from broadbase.nn.tensor_parallel import Split, Splits


def split(model: nn.Module, mesh: DeviceMesh) -> None:
    """Cut what declares a `split` over the ranks of `mesh`, in place; the rest is whole on each.

    Between its first and last matrix a layer then computes a part of its heads or channels, and
    sums at its end. ConfigError where something does not divide, or needs all heads.
    """
    for name, module in model.named_modules():
        if getattr(module, "all_heads", False):
            raise ConfigError(
                f"machine.tensor_parallel: {name} learns numbers for every head and cannot be"
                " split; set machine.tensor_parallel=1"
            )
        parts: Splits = getattr(module, "split", {})
        if parts:
            _must_divide(name, module, parts, mesh.size())
            parallelize_module(module, mesh, {part: _style(how) for part, how in parts.items()})


def _style(how: Split) -> ParallelStyle:
    match how:
        case "outputs":
            return ColwiseParallel()
        case "inputs":
            return RowwiseParallel()
        case "heads":  # [B,H,T,E]: the gradient of what all heads share is summed over the ranks
            return SequenceParallel(sequence_dim=1, use_local_output=True)


def _must_divide(name: str, module: nn.Module, parts: Splits, ranks: int) -> None:
    """A rank has whole heads, and as many as the others."""
    unit = getattr(module, "head_dim", 1)
    for part, how in parts.items():
        matrix = getattr(module, part)
        if how == "outputs" and matrix.out_features % (ranks * unit):
            kind = f"{matrix.out_features // unit} heads" if unit > 1 else f"{matrix.out_features}"
            raise ConfigError(
                f"machine.tensor_parallel={ranks} does not divide the {kind} of {name}.{part};"
                " choose a divisor"
            )
