"""Adapters with random numbers."""

from __future__ import annotations

import torch
from torch import nn

from broadbase.model.initialise import initialise
from broadbase.nn.adapters.adapted import adapt_maps, learned, shared, start, targets
from broadbase.nn.adapters.adapter import AdapterConfig, AdapterWeights


def random_adapter(
    model: nn.Module, config: AdapterConfig, seed: int = 0, size: float = 0.3
) -> AdapterWeights:
    """An adapter of a model that changes what each of its maps computes."""
    twin = shared(model)
    new = adapt_maps(twin, config, targets(twin, config))
    initialise(twin, seed, new)
    start(twin)
    chance = torch.Generator().manual_seed(seed)
    tensors = learned(twin, config).tensors
    moved = {k: t + size * torch.randn(t.shape, generator=chance) for k, t in tensors.items()}
    return AdapterWeights(config, moved)
