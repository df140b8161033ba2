"""ESM-2 (Lin et al. 2023): a rotary encoder of residues, with token dropout."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.block import BlockConfig, PreNormConfig
from broadbase.nn.feedforward import MLPConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.rotary import RotaryConfig
from broadbase.nn.spaces.discrete import DiscreteConfig, MLMHeadConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.families.bert import GAMMA
from broadbase.weights.families.bert import table as bert_table
from broadbase.weights.hf_fields import multihead, require, with_head
from broadbase.weights.mapping import ImportedModel
from broadbase.weights.sizes import Ends, Shape, only_ids

MODEL_TYPE = "esm"
DROPPED = 0.15 * 0.8  # the share of tokens whose embedding training set to 0
BLOCK, LAYER = "towers.main.blocks.*", "esm.encoder.layer.*"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read an ESM-2 config."""
    require(
        config,
        position_embedding_type=("rotary",),
        is_folding_model=(False,),
        tie_word_embeddings=(True,),
    )
    width, heads = config["hidden_size"], config["num_attention_heads"]
    norm = LayerNormConfig(eps=config["layer_norm_eps"])
    theta, head_dim = config.get("rope_theta", 10000.0), width // heads
    block = BlockConfig(
        attention=multihead(width, heads),
        feedforward=MLPConfig(hidden_width=config["intermediate_size"]),
        residual=PreNormConfig(norm=norm),
    )
    tower = TransformerConfig(
        width=width,
        layers=(LayersConfig(block=block, repeat=config["num_hidden_layers"]),),
        positions=RotaryConfig(theta=theta),
        input_norm=norm if config.get("emb_layer_norm_before") else None,
        final_norm=norm,
    )
    discrete = DiscreteConfig(
        vocab_size=config["vocab_size"],
        bias=True,
        head=MLMHeadConfig(norm=norm),
        mask_id=config["mask_token_id"],
        token_dropout=DROPPED if config["token_dropout"] else None,
    )
    residues = TokensConfig(discrete=with_head(discrete, names, "lm_head"), start=0, end=2)
    exponents = torch.arange(0, head_dim, 2).float() / head_dim
    return ImportedModel(
        ModelConfig(modalities={"text": residues}, towers={"main": tower}),
        "full",
        bert_table("esm", "lm_head", "lm_head")
        | {
            "spaces.text.head.norm": "lm_head.layer_norm",
            "towers.main.input_norm": "esm.embeddings.layer_norm",
            "towers.main.final_norm": "esm.encoder.emb_layer_norm_after",
            f"{BLOCK}.attention.norm": f"{LAYER}.attention.LayerNorm",
            f"{BLOCK}.feedforward.norm": f"{LAYER}.LayerNorm",
        },
        "esm.",
        spellings={**GAMMA, r"^lm_head\.LayerNorm": "lm_head.layer_norm"},
        copies={"lm_head.decoder.weight": "esm.embeddings.word_embeddings.weight"},
        derived={
            r"esm\.embeddings\.position_ids": lambda: torch.arange(
                config["max_position_embeddings"]
            )[None],
            r".*\.rotary_embeddings\.inv_freq": lambda: 1.0 / theta**exponents,
        },
        # an unused table of positions, and heads for other tasks
        kept=r"esm\.contact_head\..*|esm\.pooler\..*|esm\.embeddings\.position_embeddings\..*",
    )


def write(model: ModelConfig, ends: Ends) -> dict[str, Any] | None:
    """Return the config.json of an encoder of a model's sizes.

    Without a mask id, masked tokens get the id after all others.
    """
    shape, discrete = Shape.of(model, "main"), only_ids(model)
    if shape is None or discrete is None:
        return None
    new = discrete.mask_id is None
    mask = discrete.vocab_size if new else discrete.mask_id
    positions = shape.positions if isinstance(shape.positions, RotaryConfig) else RotaryConfig()
    return {
        "architectures": ["EsmForMaskedLM"],
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.attention.heads,
        "intermediate_size": shape.hidden,
        "layer_norm_eps": shape.eps(LayerNormConfig, 1e-5),
        "position_embedding_type": "rotary",
        "rope_theta": positions.theta,
        "max_position_embeddings": shape.max_length(ends),
        "emb_layer_norm_before": model.tree()["towers"]["main"]["input_norm"] is not None,
        "token_dropout": discrete.token_dropout is not None,
        "vocab_size": discrete.vocab_size + new,
        "mask_token_id": mask,
        "pad_token_id": ends.end,
    }
