"""Layers of a model in the shapes of transformers, and the weights of one copied to the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import combine
from broadbase.core.view import Segment
from broadbase.model.model import Model

WIDTH, HEADS, HIDDEN, VOCABULARY = 32, 4, 48, 60

LAYERNORM = {"name": "layer", "eps": 1e-5}

ATTENTION = {
    "name": "grouped",
    "heads": HEADS,
    "kv_heads": HEADS,
    "head_dim": WIDTH // HEADS,
    "bias": True,
    "out_bias": True,
}


def block(residual: str, eps: float, cross: bool = False) -> dict[str, Any]:
    return {
        "attention": ATTENTION,
        "feedforward": {"name": "mlp", "hidden_width": HIDDEN},
        "residual": {"name": residual, "norm": {**LAYERNORM, "eps": eps}},
        "cross": ATTENTION if cross else None,
    }


def tower(positions: Any, layers: dict[str, Any], **norms: Any) -> dict[str, Any]:
    stack = [{"repeat": 2, "block": layers}]
    return {"name": "transformer", "width": WIDTH, "layers": stack, "positions": positions, **norms}


def copy(ours: nn.Module, reference: nn.Module) -> None:
    """Weights of one layer into another of the same shape."""
    ours.load_state_dict(
        {k: v for k, v in reference.state_dict().items() if k in ours.state_dict()}
    )


def randomise(model: nn.Module) -> None:
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "pos_embed" not in name and "position_embeddings" not in name:  # fixed ones
                p.copy_(0.3 * torch.randn(p.shape, generator=rng, dtype=p.dtype))


def attention(ours: Any, reference: Any, names: Sequence[str]) -> None:
    for part, name in zip(("q", "k", "v", "out"), names, strict=True):
        copy(getattr(ours, part), reference.get_submodule(name))


def value(model: Model, name: str, segment: Segment, corrupt: Any, **fields: Any) -> Tensor:
    objective = ObjectiveConfig.from_tree({"name": name, **fields}).build()
    views = objective.views(Batch(0, {"s": segment}, KeyedRandom(0, 0)), {segment.space: corrupt})
    return combine(objective.loss([model(v) for v in views], views), objective.term_weights(views))
