"""DINOv2 (Oquab et al. 2023): gains on both branches, and a gated feed-forward in the largest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.model.model import ModelConfig
from broadbase.nn.block import LayerScaleConfig
from broadbase.nn.feedforward import FeedForwardConfig, GatedConfig, MLPConfig
from broadbase.weights.families.vision import IMAGENET, image_modality, layers, stem, tower
from broadbase.weights.hf_fields import activation, require
from broadbase.weights.mapping import ImportedModel, TensorRule

MODEL_TYPE = "dinov2"
BLOCK, LAYER = "towers.main.blocks.*", "encoder.layer.*"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a DINOv2 config."""
    return encoder(config, names, 0)


def encoder(config: Mapping[str, Any], names: Collection[str], registers: int) -> ImportedModel:
    """Return the encoder with a number of registers; a classifier is kept, and not used."""
    require(config, apply_layernorm=(True,))
    config = {"num_channels": 3, **config}
    width = config["hidden_size"]
    feedforward = _feedforward(config)
    main = tower(config, residual=LayerScaleConfig, feedforward=feedforward, registers=registers)
    hidden = feedforward.hidden_width
    extra: dict[str, TensorRule | str] = {
        "spaces.image.mask": TensorRule("embeddings.mask_token", shape=(1, width)),
        "towers.main.registers": TensorRule(
            "embeddings.register_tokens", shape=(1, registers, width)
        ),
        "towers.main.final_norm": "layernorm",
        f"{BLOCK}.attention.norm": f"{LAYER}.norm1",
        f"{BLOCK}.attention.gain": f"{LAYER}.layer_scale1.lambda1",
        f"{BLOCK}.feedforward.norm": f"{LAYER}.norm2",
        f"{BLOCK}.feedforward.gain": f"{LAYER}.layer_scale2.lambda1",
        f"{BLOCK}.feedforward.branch.up": f"{LAYER}.mlp.fc1",
        f"{BLOCK}.feedforward.branch.down": f"{LAYER}.mlp.fc2",
    }
    if config["use_swiglu_ffn"]:
        extra[f"{BLOCK}.feedforward.branch.gate"] = TensorRule(
            f"{LAYER}.mlp.weights_in", part=(0, hidden)
        )
        extra[f"{BLOCK}.feedforward.branch.up"] = TensorRule(
            f"{LAYER}.mlp.weights_in", part=(hidden, 2 * hidden)
        )
        extra[f"{BLOCK}.feedforward.branch.down"] = f"{LAYER}.mlp.weights_out"
    root = next((n.split("embeddings.")[0] for n in names if "embeddings.cls_token" in n), "")
    return ImportedModel(
        ModelConfig(
            modalities={"image": image_modality(config, **IMAGENET)}, towers={"main": main}
        ),
        "full",
        stem(config, "embeddings") | layers(BLOCK, LAYER) | extra,
        spellings={f"^{root}": ""} if root else {},
        kept=r"classifier\..*",
    )


def _feedforward(config: Mapping[str, Any]) -> FeedForwardConfig:
    hidden = int(config["hidden_size"] * config["mlp_ratio"])
    if config["use_swiglu_ffn"]:
        return GatedConfig(hidden_width=(int(hidden * 2 / 3) + 7) // 8 * 8, bias=True)
    return MLPConfig(hidden_width=hidden, activation=activation(config, "hidden_act"))
