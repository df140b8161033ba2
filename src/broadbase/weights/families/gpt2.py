"""GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from broadbase.model.model import ModelConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig, PreNormConfig
from broadbase.nn.feedforward import MLPConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.positions import LearnedConfig
from broadbase.nn.spaces.discrete import DiscreteConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.hf_fields import activation, require, tokens
from broadbase.weights.mapping import ImportedModel, Table, TensorRule

MODEL_TYPE = "gpt2"
MINE, THEIRS = "towers.main.blocks.*", "transformer.h.*"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """A GPT-2 config in our terms."""
    require(config, scale_attn_by_inverse_layer_idx=(False,))
    width, length = config["n_embd"], config["n_positions"]
    turned = (1, 0)  # matrices are kept as [in, out]
    cuts = {name: (j * width, (j + 1) * width) for j, name in enumerate("qkv")}
    return ImportedModel(
        model(config, config["n_head"]),
        "causal",
        table(cuts, turned),
        "transformer.",
        copies={"lm_head.weight": "transformer.wte.weight"},
        derived={
            r"transformer\.h\.\d+\.attn\.bias": lambda: torch.ones(1, 1, length, length).tril(),
            r"transformer\.h\.\d+\.attn\.masked_bias": lambda: torch.tensor(-1e4),
        },
    )


def model(config: Mapping[str, Any], kv_heads: int) -> ModelConfig:
    """What GPT-2 and GPT-BigCode have in common."""
    require(
        config,
        tie_word_embeddings=(True,),
        scale_attn_weights=(True,),
        add_cross_attention=(False,),
    )
    width, heads = config["n_embd"], config["n_head"]
    norm = LayerNormConfig(eps=config["layer_norm_epsilon"])
    block = BlockConfig(
        attention=GroupedQueryConfig(
            heads=heads, kv_heads=kv_heads, head_dim=width // heads, bias=True, out_bias=True
        ),
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
    """Names; `cuts` are the rows of queries, keys and values in their fused matrix."""
    fused = {
        f"{MINE}.attention.branch.{name}": TensorRule(f"{THEIRS}.attn.c_attn", axes=axes, part=part)
        for name, part in cuts.items()
    }
    return fused | {
        "spaces.text.embedding": "transformer.wte",
        "towers.main.positions.place": "transformer.wpe",
        "towers.main.final_norm": "transformer.ln_f",
        f"{MINE}.attention.norm": f"{THEIRS}.ln_1",
        f"{MINE}.attention.branch.out": TensorRule(f"{THEIRS}.attn.c_proj", axes=axes),
        f"{MINE}.feedforward.norm": f"{THEIRS}.ln_2",
        f"{MINE}.feedforward.branch.up": TensorRule(f"{THEIRS}.mlp.c_fc", axes=axes),
        f"{MINE}.feedforward.branch.down": TensorRule(f"{THEIRS}.mlp.c_proj", axes=axes),
    }
