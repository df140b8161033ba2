"""Folding the norm after an embedding into it, for families that have no such norm.

The normed embedding of an id depends on the id alone, so the normed rows can be the embedding of
another base. Its output matrix is the first one's embedding. It computes the same numbers.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from broadbase.inference.base import Base
from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.model.structure import structure_only
from broadbase.nn.rotary import RotaryConfig
from broadbase.nn.spaces.discrete import DiscreteConfig
from broadbase.nn.tower import TransformerConfig
from broadbase.weights.sizes import only_ids

NORM = "towers.{}.input_norm."


def without_norm(config: ModelConfig) -> ModelConfig | None:
    """Return a config without the norm of its embedding; None if it has none that can be folded."""
    (name, space), *others = config.modalities.items()
    (tower_name, tower), *further = config.towers.items()
    ids = only_ids(config)
    if others or further or ids is None or not isinstance(tower, TransformerConfig):
        return None
    foldable = tower.input_norm is not None and isinstance(tower.positions, RotaryConfig)
    if (
        not foldable
        or not ids.tie_embeddings
        or ids.scale != 1
        or ids.token_dropout is not None
        or tower.registers
    ):
        return None
    assert isinstance(space.id_settings, DiscreteConfig)
    untied = space.id_settings.replace(tie_embeddings=False)
    modality = TokensConfig(discrete=untied, by=space.codec_modality)
    return config.replace(
        modalities={name: modality}, towers={tower_name: tower.replace(input_norm=None)}
    )


@torch.no_grad()
def folded(base: Base) -> Base | None:
    """Return the base without the norm, its other weights shared; None where `without_norm` is."""
    config = without_norm(base.config)
    if config is None:
        return None
    (name,), (tower,) = config.modalities, config.towers
    state = {
        k: v for k, v in base.model.state_dict().items() if not k.startswith(NORM.format(tower))
    }
    embedding, output = _names(name)
    state[output] = state[embedding]
    state[embedding] = base.model.towers[tower].input_norm(state[output])  # type: ignore[operator]
    with structure_only():
        model = config.build()
    model.load_state_dict(state, assign=True)
    return replace(base, config=config, model=model.eval())


def unfolded(config: ModelConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the base before `folded`, of `config`, without those of its norm."""
    embedding, output = _names(next(iter(config.modalities)))
    return {k: v for k, v in state.items() if k != output} | {embedding: state[output]}


def _names(space: str) -> tuple[str, str]:
    return f"spaces.{space}.embedding.weight", f"spaces.{space}.output.weight"
