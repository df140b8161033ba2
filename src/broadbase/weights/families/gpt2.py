"""GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from broadbase.model.model import ModelConfig
from broadbase.nn.block import BlockConfig, PreNormConfig
from broadbase.nn.feedforward import MLPConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.positions import LearnedConfig
from broadbase.nn.spaces.discrete import DiscreteConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.hf_fields import activation, multihead, require, tokens
from broadbase.weights.mapping import ImportedModel, Table, TensorRule

MODEL_TYPE = "gpt2"
BLOCK, LAYER = "towers.main.blocks.*", "transformer.h.*"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a GPT-2 config."""
    require(config, scale_attn_by_inverse_layer_idx=(False,))
    width, length = config["n_embd"], config["n_positions"]
    transposed = (1, 0)  # matrices are stored as [in, out]
    cuts = {name: (j * width, (j + 1) * width) for j, name in enumerate("qkv")}
    return ImportedModel(
        model(config, config["n_head"]),
        "causal",
        table(cuts, transposed),
        "transformer.",
        copies={"lm_head.weight": "transformer.wte.weight"},
        derived={
            r"transformer\.h\.\d+\.attn\.bias": lambda: torch.ones(1, 1, length, length).tril(),
            r"transformer\.h\.\d+\.attn\.masked_bias": lambda: torch.tensor(-1e4),
        },
    )


def model(config: Mapping[str, Any], kv_heads: int) -> ModelConfig:
    """Return what GPT-2 and GPT-BigCode have in common."""
    require(
        config,
        tie_word_embeddings=(True,),
        scale_attn_weights=(True,),
        add_cross_attention=(False,),
    )
    width, heads = config["n_embd"], config["n_head"]
    norm = LayerNormConfig(eps=config["layer_norm_epsilon"])
    block = BlockConfig(
        attention=multihead(width, heads, kv_heads=kv_heads),
        feedforward=MLPConfig(
            hidden_width=config.get("n_inner") or 4 * width,
            activation=activation(config, "activation_function"),
        ),
        residual=PreNormConfig(norm=norm),
    )
    tower = TransformerConfig(
        width=width,
        layers=(LayersConfig(block=block, repeat=config["n_layer"]),),
        positions=LearnedConfig(num_positions=config["n_positions"]),
        final_norm=norm,
    )
    text = tokens(config, DiscreteConfig(vocab_size=config["vocab_size"]))
    return ModelConfig(modalities={"text": text}, towers={"main": tower})


def table(cuts: Mapping[str, tuple[int, int]], axes: tuple[int, int] | None) -> Table:
    """Return the names; `cuts` are the rows of queries, keys and values in their fused matrix."""
    fused = {
        f"{BLOCK}.attention.branch.{name}": TensorRule(f"{LAYER}.attn.c_attn", axes=axes, part=part)
        for name, part in cuts.items()
    }
    return fused | {
        "spaces.text.embedding": "transformer.wte",
        "towers.main.positions.place": "transformer.wpe",
        "towers.main.final_norm": "transformer.ln_f",
        f"{BLOCK}.attention.norm": f"{LAYER}.ln_1",
        f"{BLOCK}.attention.branch.out": TensorRule(f"{LAYER}.attn.c_proj", axes=axes),
        f"{BLOCK}.feedforward.norm": f"{LAYER}.ln_2",
        f"{BLOCK}.feedforward.branch.up": TensorRule(f"{LAYER}.mlp.c_fc", axes=axes),
        f"{BLOCK}.feedforward.branch.down": TensorRule(f"{LAYER}.mlp.c_proj", axes=axes),
    }
