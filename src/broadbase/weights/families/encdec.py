"""BART and Whisper: the names and layers that they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broadbase.nn.block import BlockConfig, ResidualConfig
from broadbase.nn.feedforward import MLPConfig
from broadbase.nn.tower import LayersConfig
from broadbase.weights.hf_fields import activation, multihead
from broadbase.weights.mapping import TensorRule

SIDES = ("encoder", "decoder")


def layers(
    config: Mapping[str, Any], side: str, residual: ResidualConfig, **bias: bool
) -> tuple[LayersConfig, ...]:
    """Return the layers of one side; those of the decoder attend to the encoder."""
    heads, width = config[f"{side}_attention_heads"], config["d_model"]
    attention = multihead(width, heads, **bias)
    block = BlockConfig(
        attention=attention,
        feedforward=MLPConfig(
            hidden_width=config[f"{side}_ffn_dim"],
            activation=activation(config, "activation_function"),
        ),
        residual=residual,
        cross=attention if side == "decoder" else None,
    )
    return (LayersConfig(block=block, repeat=config[f"{side}_layers"]),)


def table() -> dict[str, TensorRule | str]:
    """Return the names of the layers and positions of both sides."""
    rules: dict[str, TensorRule | str] = {}
    for side in SIDES:
        block, layer = f"towers.{side}.blocks.*", f"model.{side}.layers.*"
        rules[f"towers.{side}.positions.place"] = f"model.{side}.embed_positions"
        for module, name in (("attention", "self_attn"), ("cross", "encoder_attn")):
            rules[f"{block}.{module}.norm"] = f"{layer}.{name}_layer_norm"
            for part in ("q", "k", "v", "out"):
                rules[f"{block}.{module}.branch.{part}"] = f"{layer}.{name}.{part}_proj"
        rules[f"{block}.feedforward.norm"] = f"{layer}.final_layer_norm"
        rules[f"{block}.feedforward.branch.up"] = f"{layer}.fc1"
        rules[f"{block}.feedforward.branch.down"] = f"{layer}.fc2"
    return rules
