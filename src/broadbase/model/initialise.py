"""Initialisation: the law of every layer, and each parameter seeded by the hash of its name.

Each layer declares its law (`nn/laws.py`). Below, D is the fan-in, N the number of residual
branches of a tower (two a block, three with cross-attention), and a deviation that of a normal:

- Linear maps and convolutions, with them routers, connectors, quantisers and the layers of heads:
  deviation 1 / sqrt(D) (LeCun et al. 1998, Efficient BackProp, 4.6).
- `ResidualLinear`, which ends a residual branch (`out` of attention and of cross-attention, `down`
  of a feed-forward and of each expert): 1 / sqrt(N D) (Radford et al. 2019, GPT-2, 2.3). N counts
  the branches of its own tower alone (Wang et al. 2022, DeepNet; decision 0023); outside a tower,
  as in a pooling, it is 1.
- Queries of logits with a `scale`: 1 / sqrt(D) / (scale * sqrt(head_dim)), as T5, whose
  scale is 1, leaves it to its initialisation (Raffel et al. 2020; mesh-tensorflow).
- Embeddings, learned positions, tables of attention bias, and single vectors (mask, start,
  registers, probe, sinks): 0.02 (Radford et al. 2018, GPT, 4.1).
- `OutputLinear`, from states to predictions: 0.02, so that all start out about equally likely.
- Modulations of adaptive norms: 0, so that a layer starts as the identity (Peebles & Xie 2023).
- Gains of norms and of layer scales: 1; the weight of `rms_offset`, whose gain is 1 + weight: 0.
- Biases: 0.
- Scale and bias of a joint Space: as configured (Radford et al. 2021, 2.5; Zhai et al. 2023, 3.2).
- Codebooks of a quantiser are no parameters: they start at 0 and learn from the first step on.
- What declares nothing, as a layer from outside may: `nn.laws.law`, by type and shape, never by the
  name that the layer has in its owner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import torch
from torch import Generator, Tensor, nn

from broadbase.nn.laws import law


@torch.no_grad()
def initialise(model: nn.Module, seed: int, only: Collection[str] | None = None) -> None:
    """Draw every parameter anew, or `only` those of these names; in place.

    A parameter's numbers depend on (seed, name, shape, law) alone: not on build order, sharding, or
    which other parts the model has.
    """
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{path}.{name}"
            if only is not None and full not in only:
                continue
            start = law(module, name)
            parameter.fill_(start.mean)
            if start.std:
                parameter.add_(start.std * _normal(parameter, seed, full))


def _normal(like: Tensor, seed: int, name: str) -> Tensor:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = Generator().manual_seed(int.from_bytes(digest[:8], "little"))
    return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)
