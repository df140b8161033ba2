"""Small models, as settings and built."""

from __future__ import annotations

import torch

from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig

HEADS = {"heads": 2, "kv_heads": 1, "head_dim": 8}

TOWER = {
    "name": "transformer",
    "width": 16,
    "layers": [
        {
            "repeat": 2,
            "block": {
                "attention": {"name": "grouped", **HEADS},
                "feedforward": {"name": "gated", "hidden_width": 32},
            },
        }
    ],
}

MODALITIES = {
    "bytes": {"name": "bytes"},
    "image": {"name": "image", "height": 4, "width": 4, "channels": 1, "patch": 2},
}


def tiny(seed: int = 0, dtype: torch.dtype = torch.float32) -> Model:
    """A model of two Spaces and two layers, its numbers large enough to matter."""
    config = ModelConfig.from_tree({"modalities": MODALITIES, "towers": {"main": TOWER}})
    model = config.build()
    initialise(model, seed)
    return model.to(dtype)


EXPERTS = {"name": "experts", "hidden_width": 32, "num_experts": 4}

GATED = {"name": "gated", "hidden_width": 32}


def model(feedforward: dict[str, object]) -> Model:
    block = {"attention": {"name": "grouped", **HEADS}, "feedforward": feedforward}
    tower = {"name": "transformer", "width": 16, "layers": [{"repeat": 3, "block": block}]}
    config = ModelConfig.from_tree({"modalities": MODALITIES, "towers": {"main": tower}})
    built = config.build()
    initialise(built, 0)
    return built
