"""ModernBERT (Warner et al. 2024): a rotary encoder, windows in two layers of three."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.block import BlockConfig, PreNormConfig
from broadbase.nn.feedforward import GatedConfig
from broadbase.nn.norm import LayerNormConfig, NoNormConfig
from broadbase.nn.patterns import WindowConfig
from broadbase.nn.rotary import RotaryConfig
from broadbase.nn.spaces.discrete import DiscreteConfig, MLMHeadConfig
from broadbase.nn.tower import TransformerConfig
from broadbase.weights.hf_fields import (
    GLOBAL,
    LOCAL,
    activation,
    layer_types,
    multihead,
    require,
    rotary,
    stack,
    with_head,
)
from broadbase.weights.mapping import ImportedModel, Table, TensorRule

MODEL_TYPE = "modernbert"
MASK = 50284  # in the published vocabulary
HEAD = ("head.dense.weight",)
THETAS = {GLOBAL: ("global_rope_theta", 160_000.0), LOCAL: ("local_rope_theta", 10_000.0)}


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a ModernBERT config."""
    require(config, tie_word_embeddings=(True,))
    layers = range(config["num_hidden_layers"])
    every = config.get("global_attn_every_n_layers", 3)
    kinds = layer_types(config, [LOCAL if i % every else GLOBAL for i in layers])
    norm = LayerNormConfig(eps=config["norm_eps"], bias=bool(config.get("norm_bias", False)))
    tower = TransformerConfig(
        width=config["hidden_size"],
        layers=stack(_block(config, kind, i == 0, norm) for i, kind in enumerate(kinds)),
        positions=_positions(config, GLOBAL),
        input_norm=norm,
        final_norm=norm,
    )
    vocabulary = config["vocab_size"]
    head = MLMHeadConfig(
        activation=activation({"classifier_activation": "gelu", **config}, "classifier_activation"),
        norm=norm,
        bias=bool(config.get("classifier_bias", False)),
    )
    discrete = DiscreteConfig(
        vocab_size=vocabulary,
        bias=bool(config.get("decoder_bias", True)),
        head=head,
        mask_id=min(MASK, vocabulary - 1),
    )
    text = TokensConfig(
        discrete=with_head(discrete, names, "head.dense"),
        start=config["cls_token_id"],
        end=config["sep_token_id"],
    )
    model = ModelConfig(modalities={"text": text}, towers={"main": tower})
    copies = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}
    table = _table(config["hidden_size"], config["intermediate_size"])
    return ImportedModel(model, "full", table, "model.", copies=copies)


def _block(config: Mapping[str, Any], kind: str, first: bool, norm: LayerNormConfig) -> BlockConfig:
    """Return a layer; the first has no norm before attention, as the embedding has one."""
    heads, bias = config["num_attention_heads"], bool(config.get("attention_bias", False))
    positions = _positions(config, kind)
    return BlockConfig(
        attention=multihead(
            config["hidden_size"],
            heads,
            bias=bias,
            out_bias=bias,
            # half the tokens on either side, and the token itself
            span=WindowConfig(length=config["local_attention"] // 2 + 1) if kind == LOCAL else None,
        ),
        feedforward=GatedConfig(
            hidden_width=config["intermediate_size"],
            activation=activation(config, "hidden_activation"),
            bias=bool(config.get("mlp_bias", False)),
        ),
        residual=PreNormConfig(norm=NoNormConfig() if first else norm),
        feedforward_residual=PreNormConfig(norm=norm) if first else None,
        positions=None if positions == _positions(config, GLOBAL) else positions,
    )


def _positions(config: Mapping[str, Any], kind: str) -> RotaryConfig:
    field, usual = THETAS[kind]
    if config.get("rope_parameters"):
        return rotary(config, kind)
    return rotary({"rope_theta": config.get(field, usual)})


def _table(width: int, hidden: int) -> Table:
    block, layer = "towers.main.blocks.*", "model.layers.*"
    fused = {
        f"{block}.attention.branch.{name}": TensorRule(
            f"{layer}.attn.Wqkv", part=(j * width, (j + 1) * width)
        )
        for j, name in enumerate("qkv")
    }
    return fused | {
        "spaces.text.embedding": "model.embeddings.tok_embeddings",
        "spaces.text.head.linear": "head.dense",
        "spaces.text.head.norm": "head.norm",
        "spaces.text.bias": "decoder.bias",
        "towers.main.input_norm": "model.embeddings.norm",
        "towers.main.final_norm": "model.final_norm",
        f"{block}.attention.norm": f"{layer}.attn_norm",
        f"{block}.attention.branch.out": f"{layer}.attn.Wo",
        f"{block}.feedforward.norm": f"{layer}.mlp_norm",
        f"{block}.feedforward.branch.gate": TensorRule(f"{layer}.mlp.Wi", part=(0, hidden)),
        f"{block}.feedforward.branch.up": TensorRule(f"{layer}.mlp.Wi", part=(hidden, 2 * hidden)),
        f"{block}.feedforward.branch.down": f"{layer}.mlp.Wo",
    }
