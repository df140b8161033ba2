"""StarCoder2 (Lozhkov et al. 2024): layer norms, a plain feed-forward, biases, a window."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.nn.feedforward import MLPConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.weights.families.decoder import BLOCK, LAYER, TABLE, decoder
from broadbase.weights.hf_fields import GLOBAL, LOCAL, activation
from broadbase.weights.mapping import ImportedModel

MODEL_TYPE = "starcoder2"
PLAIN = {
    f"{BLOCK}.feedforward.branch.up": f"{LAYER}.mlp.c_fc",
    f"{BLOCK}.feedforward.branch.down": f"{LAYER}.mlp.c_proj",
}


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a StarCoder2 config."""
    bias = bool(config.get("use_bias", True))
    plain = MLPConfig(
        hidden_width=config["intermediate_size"],
        activation=activation(config, "hidden_act"),
        bias=bias,
    )
    return decoder(
        config,
        names,
        plain,
        kinds=[LOCAL if config.get("sliding_window") else GLOBAL] * config["num_hidden_layers"],
        norm=LayerNormConfig(eps=config["norm_epsilon"]),
        table=TABLE | PLAIN,
        discrete={"tie_embeddings": True},
        bias=bias,
        out_bias=bias,
    )
