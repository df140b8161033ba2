"""CLIP (Radford et al. 2021): a tower of pictures and one of texts, and the Space they meet in."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch

from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig, PreNormConfig
from broadbase.nn.feedforward import MLPConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.patterns import CausalSpanConfig, SpanConfig
from broadbase.nn.pooling import FirstConfig, LastConfig
from broadbase.nn.positions import LearnedConfig
from broadbase.nn.spaces.discrete import DiscreteConfig, NoHeadConfig
from broadbase.nn.spaces.joint import JointConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.families.vision import described, patches, pictures
from broadbase.weights.families.vision import tower as vision_tower
from broadbase.weights.hf_fields import activation, first
from broadbase.weights.mapping import ImportedModel, TensorRule
from broadbase.weights.sizes import Ends, Shape, ids

MODEL_TYPE = "clip"
SCALE = math.log(1 / 0.07)  # of the logits, to begin with
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
    """A CLIP config in our terms: a picture is read at its start, a text at its end."""
    text, vision = TEXT | config["text_config"], VISION | config["vision_config"]
    side = vision["image_size"] // vision["patch_size"]
    discrete = DiscreteConfig(vocab_size=text["vocab_size"], head=NoHeadConfig())
    end, size = first(text["eos_token_id"]), config["projection_dim"]
    scale = math.exp(config.get("logit_scale_init_value", SCALE))
    modalities = {
        "image": pictures(vision, bias=False, **PIXELS),
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


def write(model: ModelConfig, said: Ends) -> dict[str, Any] | None:
    """The config.json of two towers of a model's sizes."""
    seen, told = described(model, "image", "", "quick_gelu", 1e-5), Shape.of(model, "text")
    discrete, joint = ids(model.modalities.get("text")), model.heads.get("text_joint")
    if seen is None or told is None or discrete is None or not isinstance(joint, JointConfig):
        return None
    text = {
        "hidden_size": told.width,
        "num_hidden_layers": told.layers,
        "num_attention_heads": told.attention.heads,
        "intermediate_size": told.hidden,
        "hidden_act": told.activation("quick_gelu"),
        "layer_norm_eps": told.eps(LayerNormConfig, 1e-5),
        "max_position_embeddings": told.max_length(said),
        "vocab_size": discrete.vocab_size,
        "bos_token_id": said.start,
        "eos_token_id": said.end,
        "pad_token_id": said.end,
    }
    return {
        "architectures": ["CLIPModel"],
        "projection_dim": joint.embedding_dim or told.width,
        "logit_scale_init_value": math.log(joint.scale or math.exp(SCALE)),
        "text_config": text,
        "vision_config": seen,
    }


def text_tower(config: Mapping[str, Any], reach: SpanConfig | None) -> TransformerConfig:
    """The encoder of texts."""
    width, heads = config["hidden_size"], config["num_attention_heads"]
    norm = LayerNormConfig(eps=config["layer_norm_eps"])
    block = BlockConfig(
        attention=GroupedQueryConfig(
            heads=heads,
            kv_heads=heads,
            head_dim=width // heads,
            span=reach,
            bias=True,
            out_bias=True,
        ),
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
    """Names of all but the layers; `tower` is that of pictures."""
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
    """Names of the layers of both towers."""
    found: dict[str, TensorRule | str] = {}
    for name, side in ((tower, "vision"), ("text", "text")):
        mine, theirs = f"towers.{name}.blocks.*", f"{side}_model.encoder.layers.*"
        found |= {
            f"{mine}.attention.branch.{ours}": f"{theirs}.self_attn.{name}_proj"
            for ours, name in (("q", "q"), ("k", "k"), ("v", "v"), ("out", "out"))
        }
        found[f"{mine}.attention.norm"] = f"{theirs}.layer_norm1"
        found[f"{mine}.feedforward.norm"] = f"{theirs}.layer_norm2"
        found[f"{mine}.feedforward.branch.up"] = f"{theirs}.mlp.fc1"
        found[f"{mine}.feedforward.branch.down"] = f"{theirs}.mlp.fc2"
    return found
