"""Initialisation: one function, every law in it, each parameter seeded by the hash of its name.

A parameter's numbers depend on (seed, name, shape) alone: not on build order, sharding, or on which
other parts the model has.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection

import torch
from torch import Generator, Tensor, nn


@torch.no_grad()
def initialise(model: nn.Module, seed: int, only: Collection[str] | None = None) -> None:
    """Draw every parameter anew, or `only` those of these names; in place.

    Linear maps: normal of deviation 1 / sqrt(fan-in). Maps back into the residual stream (a module
    called `out` or `down`): that over sqrt(2 * layers) (Radford et al. 2019, 2.3). Embeddings,
    positions, mask vectors and a Space's `output`: normal 0.02, so that all values start out about
    equally likely. Norm gains 1, biases 0. A module whose method
    `law(name)` returns a deviation (None: all ones) overrides this for its own parameters; those
    in its `begins` have the number there.
    """
    layers = sum(name.rpartition(".")[2].isdigit() for name, _ in model.named_modules()) or 1
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{path}.{name}"
            if only is not None and full not in only:
                continue
            begins = getattr(module, "begins", {})
            if name in begins:
                parameter.fill_(begins[name])
                continue
            deviation = _deviation(module, path.rpartition(".")[2], name, parameter, layers)
            if deviation is None:
                parameter.fill_(1.0)
            else:
                parameter.copy_(deviation * _normal(parameter, seed, full))


def _deviation(
    module: nn.Module, kind: str, name: str, parameter: Tensor, layers: int
) -> float | None:
    law = getattr(module, "law", None)
    if law is not None:
        deviation = law(name)
        return None if deviation is None else float(deviation)
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return 0.0 if name == "bias" else None
    if name.endswith("bias"):
        return 0.0
    if isinstance(module, nn.Linear) and kind != "output":
        scale = 1 / math.sqrt(2 * layers) if kind in ("out", "down") else 1.0
        return scale / math.sqrt(parameter.shape[1])
    return 0.02


def _normal(like: Tensor, seed: int, name: str) -> Tensor:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = Generator().manual_seed(int.from_bytes(digest[:8], "little"))
    return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)
