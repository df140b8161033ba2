"""SigLIP (Zhai et al. 2023): images pooled by attention, texts at their last token."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.pooling import AttentionPoolingConfig, LastConfig
from broadbase.nn.spaces.discrete import DiscreteConfig, NoHeadConfig
from broadbase.nn.spaces.joint import JointConfig
from broadbase.weights.families.clip import layers, text_tower
from broadbase.weights.families.vision import image_modality, patches
from broadbase.weights.families.vision import tower as vision_tower
from broadbase.weights.hf_fields import activation, first, require
from broadbase.weights.mapping import ImportedModel, TensorRule

MODEL_TYPE = "siglip"
SHARED = {
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
TEXT = {
    **SHARED,
    "vocab_size": 32000,
    "max_position_embeddings": 64,
    "bos_token_id": 49406,
    "eos_token_id": 1,
}
VISION = {**SHARED, "num_channels": 3, "image_size": 224, "patch_size": 16}
HEAD = "vision_model.head"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a SigLIP config; texts are padded to their full length, and padding counts."""
    text, vision = TEXT | config["text_config"], VISION | config["vision_config"]
    require(vision, vision_use_head=(True,))
    discrete = DiscreteConfig(vocab_size=text["vocab_size"], head=NoHeadConfig())
    probe = AttentionPoolingConfig(
        heads=vision["num_attention_heads"],
        hidden_width=vision["intermediate_size"],
        activation=activation(vision, "hidden_act"),
        eps=vision["layer_norm_eps"],
    )
    size = text.get("projection_size", text["hidden_size"])
    end = first(text["eos_token_id"])
    patches_per_image = (vision["image_size"] // vision["patch_size"]) ** 2
    return ImportedModel(
        ModelConfig(
            modalities={
                "image": image_modality(vision, start=False),
                "text": TokensConfig(discrete=discrete, end=end, before=()),
            },
            heads={
                "image_joint": JointConfig(embedding_dim=None, pooling=probe),
                "text_joint": JointConfig(
                    embedding_dim=size,
                    shift=True,
                    pooling=LastConfig(),
                    scale=1.0,
                    bias=0.0,
                    max_scale=None,
                ),
            },
            towers={"image": vision_tower(vision, start=False), "text": text_tower(text, None)},
            tower_of={"text": "text", "text_joint": "text"},
        ),
        "full",
        _table(vision) | layers(),
        codecs=("image", "text"),
        derived={
            r"text_model\.embeddings\.position_ids": lambda: torch.arange(
                text["max_position_embeddings"]
            )[None],
            r"vision_model\.embeddings\.position_ids": lambda: torch.arange(patches_per_image)[
                None
            ],
        },
    )


def _table(vision: Mapping[str, Any]) -> dict[str, TensorRule | str]:
    embeddings, width = "vision_model.embeddings", vision["hidden_size"]
    pool = "spaces.image_joint.pool"
    rules: dict[str, TensorRule | str] = {
        "spaces.image.input": patches(vision, f"{embeddings}.patch_embedding"),
        "spaces.text.embedding": "text_model.embeddings.token_embedding",
        "spaces.text_joint.project": "text_model.head",
        "spaces.text_joint.log_scale": "logit_scale",
        "spaces.text_joint.bias": "logit_bias",
        f"{pool}.probe": TensorRule(f"{HEAD}.probe", shape=(1, 1, width)),
        f"{pool}.attention.out": f"{HEAD}.attention.out_proj",
        f"{pool}.feedforward.norm": f"{HEAD}.layernorm",
        f"{pool}.feedforward.branch.up": f"{HEAD}.mlp.fc1",
        f"{pool}.feedforward.branch.down": f"{HEAD}.mlp.fc2",
        "towers.image.positions.place": f"{embeddings}.position_embedding",
        "towers.image.final_norm": "vision_model.post_layernorm",
        "towers.text.positions.place": "text_model.embeddings.position_embedding",
        "towers.text.final_norm": "text_model.final_layer_norm",
    }
    for j, name in enumerate("qkv"):
        for leaf in ("weight", "bias"):
            part = (j * width, (j + 1) * width)
            packed = TensorRule(f"{HEAD}.attention.in_proj_{leaf}", part=part)
            rules[f"{pool}.attention.{name}.{leaf}"] = packed
    return rules
