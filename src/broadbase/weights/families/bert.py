"""BERT (Devlin et al. 2019), with or without its masked-language-model head; Geneformer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.block import BlockConfig, PostNormConfig
from broadbase.nn.feedforward import MLPConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.positions import LearnedConfig
from broadbase.nn.spaces.discrete import DiscreteConfig, MLMHeadConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.hf_fields import activation, multihead, require, with_head
from broadbase.weights.mapping import ImportedModel, TensorRule
from broadbase.weights.sizes import Ends, Shape, only_ids

MODEL_TYPE = "bert"
HEAD = ("cls.predictions.bias",)
CLS, SEP, MASK = 101, 102, 103  # in the published vocabularies
GAMMA = {r"\.gamma$": ".weight", r"\.beta$": ".bias"}  # older files


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a BERT config."""
    last = config["vocab_size"] - 1
    length = config["max_position_embeddings"]
    discrete = DiscreteConfig(
        vocab_size=config["vocab_size"],
        bias=True,
        head=MLMHeadConfig(
            activation=activation(config, "hidden_act"),
            norm=LayerNormConfig(eps=config["layer_norm_eps"]),
        ),
        mask_id=min(MASK, last),
    )
    text = TokensConfig(
        discrete=with_head(discrete, names, "cls.predictions"),
        start=min(CLS, last),
        end=min(SEP, last),
    )
    positions = LearnedConfig(num_positions=length, token_types=config["type_vocab_size"])
    return ImportedModel(
        encoder(config, text, positions),
        "full",
        table("bert", "cls.predictions", "cls.predictions.transform"),
        "bert.",
        spellings=GAMMA,
        copies={
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        },
        derived={r"bert\.embeddings\.position_ids": lambda: torch.arange(length)[None]},
        kept=r"bert\.pooler\..*|cls\.seq_relationship\..*",
    )


def write(model: ModelConfig, ends: Ends) -> dict[str, Any] | None:
    """Return the config.json of an encoder of a model's sizes; None without a mask id.

    BERT's tokenizer needs such an id.
    """
    shape, discrete = Shape.of(model, "main"), only_ids(model)
    if shape is None or discrete is None or discrete.mask_id is None:
        return None
    learned = isinstance(shape.positions, LearnedConfig)
    return {
        "architectures": ["BertForMaskedLM"],
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.attention.heads,
        "intermediate_size": shape.hidden,
        "hidden_act": shape.activation("gelu"),
        "layer_norm_eps": shape.eps(LayerNormConfig, 1e-12),
        "max_position_embeddings": shape.max_length(ends),
        "type_vocab_size": shape.positions.token_types if learned else 2,  # type: ignore[attr-defined]
        "vocab_size": discrete.vocab_size,
        "pad_token_id": 0,
    }


def encoder(config: Mapping[str, Any], text: TokensConfig, positions: LearnedConfig) -> ModelConfig:
    """Return the backbone of BERT and RoBERTa."""
    require(
        config,
        position_embedding_type=("absolute", None),
        tie_word_embeddings=(True,),
        is_decoder=(False,),
        add_cross_attention=(False,),
    )
    width, heads = config["hidden_size"], config["num_attention_heads"]
    norm = LayerNormConfig(eps=config["layer_norm_eps"])
    block = BlockConfig(
        attention=multihead(width, heads),
        feedforward=MLPConfig(
            hidden_width=config["intermediate_size"], activation=activation(config, "hidden_act")
        ),
        residual=PostNormConfig(norm=norm),
    )
    tower = TransformerConfig(
        width=width,
        layers=(LayersConfig(block=block, repeat=config["num_hidden_layers"]),),
        positions=positions,
        input_norm=norm,
        final_norm=None,
    )
    return ModelConfig(modalities={"text": text}, towers={"main": tower})


def table(base: str, bias: str, head: str) -> dict[str, TensorRule | str]:
    """Return the names of a backbone `base` and a head."""
    block, layer = "towers.main.blocks.*", f"{base}.encoder.layer.*"
    names: dict[str, TensorRule | str] = {
        "spaces.text.embedding": f"{base}.embeddings.word_embeddings",
        "spaces.text.bias": f"{bias}.bias",
        "spaces.text.head.linear": f"{head}.dense",
        "spaces.text.head.norm": f"{head}.LayerNorm",
        "towers.main.positions.place": f"{base}.embeddings.position_embeddings",
        "towers.main.positions.part": f"{base}.embeddings.token_type_embeddings",
        "towers.main.input_norm": f"{base}.embeddings.LayerNorm",
    }
    layers = {
        "attention.branch.q": "attention.self.query",
        "attention.branch.k": "attention.self.key",
        "attention.branch.v": "attention.self.value",
        "attention.branch.out": "attention.output.dense",
        "attention.norm": "attention.output.LayerNorm",
        "feedforward.branch.up": "intermediate.dense",
        "feedforward.branch.down": "output.dense",
        "feedforward.norm": "output.LayerNorm",
    }
    names.update({f"{block}.{module}": f"{layer}.{name}" for module, name in layers.items()})
    return names
