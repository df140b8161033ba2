"""What BART and Whisper share: names, and layers of an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig, ResidualConfig
from broadbase.nn.feedforward import MLPConfig
from broadbase.nn.tower import LayersConfig
from broadbase.weights.hf_fields import activation
from broadbase.weights.mapping import TensorRule

SIDES = ("encoder", "decoder")


def layers(
    config: Mapping[str, Any], side: str, residual: ResidualConfig, **bias: bool
) -> tuple[LayersConfig, ...]:
    """The layers of one side; those of the decoder read the encoder."""
    heads, width = config[f"{side}_attention_heads"], config["d_model"]
    attention = GroupedQueryConfig(
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        **{"bias": True, "out_bias": True, **bias},
    )
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
    """Names of the layers and positions of both sides."""
    found: dict[str, TensorRule | str] = {}
    for side in SIDES:
        mine, theirs = f"towers.{side}.blocks.*", f"model.{side}.layers.*"
        found[f"towers.{side}.positions.place"] = f"model.{side}.embed_positions"
        for ours, name in (("attention", "self_attn"), ("cross", "encoder_attn")):
            found[f"{mine}.{ours}.norm"] = f"{theirs}.{name}_layer_norm"
            for part in ("q", "k", "v", "out"):
                found[f"{mine}.{ours}.branch.{part}"] = f"{theirs}.{name}.{part}_proj"
        found[f"{mine}.feedforward.norm"] = f"{theirs}.final_layer_norm"
        found[f"{mine}.feedforward.branch.up"] = f"{theirs}.fc1"
        found[f"{mine}.feedforward.branch.down"] = f"{theirs}.fc2"
    return found
