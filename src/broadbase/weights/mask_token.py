"""Replacing the mask vector of a base by a mask id, for families that have one.

Published encoders have a token for masking. The vector becomes the row of one more id, the last;
what the base computes for other ids does not change.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from broadbase.inference.base import Base
from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.model.structure import structure_only
from broadbase.weights.sizes import only_ids

TABLES = ("embedding.weight", "output.weight")


def with_mask(config: ModelConfig) -> ModelConfig | None:
    """Return a config with the id; None if it has one, or has several modalities."""
    discrete = only_ids(config)
    if discrete is None or discrete.mask_id is not None or discrete.bias:
        return None
    ((name, space),) = config.modalities.items()
    mask = discrete.vocab_size
    grown = discrete.replace(vocab_size=mask + 1, mask_id=mask, tie_embeddings=False)
    modality = TokensConfig(discrete=grown, by=space.codec_modality)
    return config.replace(modalities={name: modality})


@torch.no_grad()
def masked(base: Base, vector: Tensor) -> Base | None:
    """Return the base with a mask id whose row is the `vector`; None where `with_mask` is.

    The row of the output matrix is that of the start, which is no target either.
    """
    config = with_mask(base.config)
    if config is None:
        return None
    (space,) = config.modalities
    embedding, output = (f"spaces.{space}.{name}" for name in TABLES)
    state = dict(base.model.state_dict())
    rows = state.get(output, state[embedding])
    start = int(base.codecs[space].start)
    state[output] = torch.cat([rows, rows[start : start + 1]])
    state[embedding] = torch.cat([state[embedding], vector.to(rows.dtype)[None]])
    del state[f"spaces.{space}.mask"]
    with structure_only():
        model = config.build()
    model.load_state_dict(state, assign=True)
    return replace(base, config=config, model=model.eval())


def unmasked(config: ModelConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the base before `masked`, of `config`, without its vector."""
    (space,) = config.modalities
    embedding, output = (f"spaces.{space}.{name}" for name in TABLES)
    tensors = {k: v[:-1] if k in (embedding, output) else v for k, v in state.items()}
    discrete = only_ids(config)
    if discrete is not None and discrete.tie_embeddings:
        del tensors[output]
    return tensors
