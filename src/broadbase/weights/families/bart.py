"""BART (Lewis et al. 2020): an encoder and a decoder with post-norms."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.block import PostNormConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.positions import LearnedConfig
from broadbase.nn.spaces.discrete import DiscreteConfig
from broadbase.nn.tower import TransformerConfig
from broadbase.weights.families.encdec import SIDES, layers, table
from broadbase.weights.hf_fields import first, require, with_head
from broadbase.weights.mapping import ImportedModel, TensorRule

MODEL_TYPE = "bart"
OFFSET = 2  # the row of the first position in the table
MASK = 50264  # in the published vocabulary


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a BART config."""
    refused = {"normalize_before": (False,), "add_final_layer_norm": (False,)}
    require(config, tie_word_embeddings=(True,), **refused)
    norm, width, vocabulary = LayerNormConfig(), config["d_model"], config["vocab_size"]
    length = config["max_position_embeddings"] + OFFSET
    towers = {
        side: TransformerConfig(
            width=width,
            layers=layers(config, side, PostNormConfig(norm=norm)),
            positions=LearnedConfig(num_positions=length, offset=OFFSET),
            input_norm=norm,
            final_norm=None,
        )
        for side in SIDES
    }
    discrete = DiscreteConfig(
        vocab_size=vocabulary,
        bias=True,
        scale=math.sqrt(width) if config.get("scale_embedding") else 1.0,
        mask_id=min(MASK, vocabulary - 1),
    )
    text = TokensConfig(
        discrete=with_head(discrete, names, "final_logits_bias"),
        start=config["bos_token_id"],
        end=first(config["eos_token_id"]),
    )
    extra: dict[str, TensorRule | str] = {
        "spaces.text.embedding": "model.shared",
        "spaces.text.bias": TensorRule("final_logits_bias", shape=(1, vocabulary)),
    }
    norms = {f"towers.{side}.input_norm": f"model.{side}.layernorm_embedding" for side in SIDES}
    tied = ("model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head")
    return ImportedModel(
        ModelConfig(modalities={"text": text}, towers=towers),
        "full",
        table() | extra | norms,
        "model.",
        copies={f"{name}.weight": "model.shared.weight" for name in tied},
    )
