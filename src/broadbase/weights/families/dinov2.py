"""DINOv2 (Oquab et al. 2023): gains on both branches, perhaps a gated feed-forward."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.model.model import ModelConfig
from broadbase.nn.block import LayerScaleConfig
from broadbase.nn.feedforward import FeedForwardConfig, GatedConfig, MLPConfig
from broadbase.weights.families.vision import IMAGENET, layers, pictures, stem, tower
from broadbase.weights.hf_fields import activation, require
from broadbase.weights.mapping import ImportedModel, TensorRule

MODEL_TYPE = "dinov2"
MINE, THEIRS = "towers.main.blocks.*", "encoder.layer.*"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """A DINOv2 config in our terms."""
    return encoder(config, names, 0)


def encoder(config: Mapping[str, Any], names: Collection[str], registers: int) -> ImportedModel:
    """With registers or without; of classifiers the encoder."""
    require(config, apply_layernorm=(True,))
    config = {"num_channels": 3, **config}
    width = config["hidden_size"]
    feedforward = _feedforward(config)
    main = tower(config, residual=LayerScaleConfig, feedforward=feedforward, registers=registers)
    hidden = feedforward.hidden_width
    own: dict[str, TensorRule | str] = {
        "spaces.image.mask": TensorRule("embeddings.mask_token", shape=(1, width)),
        "towers.main.registers": TensorRule(
            "embeddings.register_tokens", shape=(1, registers, width)
        ),
        "towers.main.final_norm": "layernorm",
        f"{MINE}.attention.norm": f"{THEIRS}.norm1",
        f"{MINE}.attention.gain": f"{THEIRS}.layer_scale1.lambda1",
        f"{MINE}.feedforward.norm": f"{THEIRS}.norm2",
        f"{MINE}.feedforward.gain": f"{THEIRS}.layer_scale2.lambda1",
        f"{MINE}.feedforward.branch.up": f"{THEIRS}.mlp.fc1",
        f"{MINE}.feedforward.branch.down": f"{THEIRS}.mlp.fc2",
    }
    if config["use_swiglu_ffn"]:
        own[f"{MINE}.feedforward.branch.gate"] = TensorRule(
            f"{THEIRS}.mlp.weights_in", part=(0, hidden)
        )
        own[f"{MINE}.feedforward.branch.up"] = TensorRule(
            f"{THEIRS}.mlp.weights_in", part=(hidden, 2 * hidden)
        )
        own[f"{MINE}.feedforward.branch.down"] = f"{THEIRS}.mlp.weights_out"
    root = next((n.split("embeddings.")[0] for n in names if "embeddings.cls_token" in n), "")
    return ImportedModel(
        ModelConfig(modalities={"image": pictures(config, **IMAGENET)}, towers={"main": main}),
        "full",
        stem(config, "embeddings") | layers(MINE, THEIRS) | own,
        spellings={f"^{root}": ""} if root else {},
        kept=r"classifier\..*",
    )


def _feedforward(config: Mapping[str, Any]) -> FeedForwardConfig:
    hidden = int(config["hidden_size"] * config["mlp_ratio"])
    if config["use_swiglu_ffn"]:
        return GatedConfig(hidden_width=(int(hidden * 2 / 3) + 7) // 8 * 8, bias=True)
    return MLPConfig(hidden_width=hidden, activation=activation(config, "hidden_act"))
