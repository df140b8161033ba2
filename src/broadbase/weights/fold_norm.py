"""A base whose embedding is normed before the first block, as one of a family without such a norm.

The norm of an embedded id is a vector of that id, as an embedding is. So the normed rows are the
embedding of another base, whose output matrix is the first one's: no number of what it computes
changes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from broadbase.inference.base import Base
from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.positions import RotaryConfig
from broadbase.nn.tower import TransformerConfig
from broadbase.weights.sizes import only_ids

NORM = "towers.{}.input_norm."


def without_norm(config: ModelConfig) -> ModelConfig | None:
    """The config of such a base without the norm; None where there is none, or it is another's."""
    (name, space), *others = config.modalities.items()
    (where, tower), *further = config.towers.items()
    ids = only_ids(config)
    if others or further or ids is None or not isinstance(tower, TransformerConfig):
        return None
    told = tower.input_norm is not None and isinstance(tower.positions, RotaryConfig)
    if (
        not told
        or not ids.tie_embeddings
        or ids.scale != 1
        or ids.token_dropout is not None
        or tower.registers
    ):
        return None
    own = space.discrete.model_copy(update={"tie_embeddings": False})  # type: ignore[attr-defined]
    modality = TokensConfig(discrete=own, by=getattr(space, "by", None) or space)
    return config.model_copy(
        update={
            "modalities": {name: modality},
            "towers": {where: tower.model_copy(update={"input_norm": None})},
        }
    )


@torch.no_grad()
def folded(base: Base) -> Base | None:
    """The same without the norm, its other weights shared; None where `without_norm` is."""
    config = without_norm(base.config)
    if config is None:
        return None
    (name,), (where,) = config.modalities, config.towers
    state = {
        k: v for k, v in base.model.state_dict().items() if not k.startswith(NORM.format(where))
    }
    embedding, output = _names(name)
    state[output] = state[embedding]
    state[embedding] = base.model.towers[where].input_norm(state[output])  # type: ignore[operator]
    with torch.device("meta"):
        model = config.build()
    model.load_state_dict(state, assign=True)
    return replace(base, config=config, model=model.eval())


def unfolded(config: ModelConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Back to the tensors of a base of `config`, but for those of its norm."""
    embedding, output = _names(next(iter(config.modalities)))
    return {k: v for k, v in state.items() if k != output} | {embedding: state[output]}


def _names(space: str) -> tuple[str, str]:
    return f"spaces.{space}.embedding.weight", f"spaces.{space}.output.weight"
