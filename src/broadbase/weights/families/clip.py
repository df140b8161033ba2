"""CLIP (Radford et al. 2021): a tower of images, a tower of texts, and their joint space."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch

from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.block import BlockConfig, PreNormConfig
from broadbase.nn.feedforward import MLPConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.patterns import CausalSpanConfig, SpanConfig
from broadbase.nn.pooling import FirstConfig, LastConfig
from broadbase.nn.positions import LearnedConfig
from broadbase.nn.spaces.discrete import DiscreteConfig, NoHeadConfig
from broadbase.nn.spaces.joint import JointConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.families.vision import described, image_modality, patches
from broadbase.weights.families.vision import tower as vision_tower
from broadbase.weights.hf_fields import activation, first, multihead
from broadbase.weights.mapping import ImportedModel, TensorRule
from broadbase.weights.sizes import Ends, Shape, ids

MODEL_TYPE = "clip"
SCALE = math.log(1 / 0.07)  # the logarithm of the initial scale of the logits
PIXELS = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "deviation": (0.26862954, 0.26130258, 0.27577711),
}
SHARED = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
TEXT = {
    **SHARED,
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
VISION = {
    **SHARED,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a CLIP config: an image is pooled at its start, a text at its end."""
    text, vision = TEXT | config["text_config"], VISION | config["vision_config"]
    side = vision["image_size"] // vision["patch_size"]
    discrete = DiscreteConfig(vocab_size=text["vocab_size"], head=NoHeadConfig())
    end, size = first(text["eos_token_id"]), config["projection_dim"]
    scale = math.exp(config.get("logit_scale_init_value", SCALE))
    modalities = {
        "image": image_modality(vision, bias=False, **PIXELS),
        "text": TokensConfig(discrete=discrete, start=text["bos_token_id"], end=end),
    }
    heads = {
        "image_joint": JointConfig(embedding_dim=size, pooling=FirstConfig()),
        "text_joint": JointConfig(embedding_dim=size, pooling=LastConfig(), scale=scale),
    }
    norm = LayerNormConfig(eps=vision["layer_norm_eps"])
    model = ModelConfig(
        modalities=modalities,
        heads=heads,
        towers={
            "image": vision_tower(vision, input_norm=norm),
            "text": text_tower(text, CausalSpanConfig()),
        },
        tower_of={"text": "text", "text_joint": "text"},
    )
    return ImportedModel(
        model,
        "full",
        table(vision) | layers(),
        codecs=("image", "text"),
        derived={
            r"text_model\.embeddings\.position_ids": lambda: torch.arange(
                text["max_position_embeddings"]
            )[None],
            r"vision_model\.embeddings\.position_ids": lambda: torch.arange(side * side + 1)[None],
        },
    )


def write(model: ModelConfig, ends: Ends) -> dict[str, Any] | None:
    """Return the config.json of two towers of a model's sizes."""
    vision = described(model, "image", "", "quick_gelu", 1e-5)
    shape = Shape.of(model, "text")
    discrete, joint = ids(model.modalities.get("text")), model.heads.get("text_joint")
    if vision is None or shape is None or discrete is None or not isinstance(joint, JointConfig):
        return None
    text = {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.attention.heads,
        "intermediate_size": shape.hidden,
        "hidden_act": shape.activation("quick_gelu"),
        "layer_norm_eps": shape.eps(LayerNormConfig, 1e-5),
        "max_position_embeddings": shape.max_length(ends),
        "vocab_size": discrete.vocab_size,
        "bos_token_id": ends.start,
        "eos_token_id": ends.end,
        "pad_token_id": ends.end,
    }
    return {
        "architectures": ["CLIPModel"],
        "projection_dim": joint.embedding_dim or shape.width,
        "logit_scale_init_value": math.log(joint.scale or math.exp(SCALE)),
        "text_config": text,
        "vision_config": vision,
    }


def text_tower(config: Mapping[str, Any], span: SpanConfig | None) -> TransformerConfig:
    """Return the encoder of texts."""
    width, heads = config["hidden_size"], config["num_attention_heads"]
    norm = LayerNormConfig(eps=config["layer_norm_eps"])
    block = BlockConfig(
        attention=multihead(width, heads, span=span),
        feedforward=MLPConfig(
            hidden_width=config["intermediate_size"], activation=activation(config, "hidden_act")
        ),
        residual=PreNormConfig(norm=norm),
    )
    return TransformerConfig(
        width=width,
        layers=(LayersConfig(block=block, repeat=config["num_hidden_layers"]),),
        positions=LearnedConfig(num_positions=config["max_position_embeddings"]),
        final_norm=norm,
    )


def table(vision: Mapping[str, Any], tower: str = "image") -> dict[str, TensorRule | str]:
    """Return the names of all but the layers; `tower` is that of images."""
    embeddings = "vision_model.embeddings"
    return {
        "spaces.image.input": patches(vision, f"{embeddings}.patch_embedding"),
        "spaces.image.start": f"{embeddings}.class_embedding",
        "spaces.text.embedding": "text_model.embeddings.token_embedding",
        "spaces.image_joint.project": "visual_projection",
        "spaces.text_joint.project": "text_projection",
        "spaces.text_joint.log_scale": TensorRule("logit_scale", shape=()),
        f"towers.{tower}.positions.place": f"{embeddings}.position_embedding",
        f"towers.{tower}.input_norm": "vision_model.pre_layrnorm",
        f"towers.{tower}.final_norm": "vision_model.post_layernorm",
        "towers.text.positions.place": "text_model.embeddings.position_embedding",
        "towers.text.final_norm": "text_model.final_layer_norm",
    }


def layers(tower: str = "image") -> dict[str, TensorRule | str]:
    """Return the names of the layers of both towers."""
    rules: dict[str, TensorRule | str] = {}
    for name, side in ((tower, "vision"), ("text", "text")):
        block, layer = f"towers.{name}.blocks.*", f"{side}_model.encoder.layers.*"
        rules |= {
            f"{block}.attention.branch.{module}": f"{layer}.self_attn.{name}_proj"
            for module, name in (("q", "q"), ("k", "k"), ("v", "v"), ("out", "out"))
        }
        rules[f"{block}.attention.norm"] = f"{layer}.layer_norm1"
        rules[f"{block}.feedforward.norm"] = f"{layer}.layer_norm2"
        rules[f"{block}.feedforward.branch.up"] = f"{layer}.mlp.fc1"
        rules[f"{block}.feedforward.branch.down"] = f"{layer}.mlp.fc2"
    return rules
