"""Llama and its descendants: the names and fields that they share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from broadbase.model.model import ModelConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig, PreNormConfig, ResidualConfig
from broadbase.nn.feedforward import FeedForwardConfig, GatedConfig
from broadbase.nn.norm import NormConfig, RMSNormConfig
from broadbase.nn.patterns import WindowConfig
from broadbase.nn.rotary import RotaryConfig
from broadbase.nn.spaces.discrete import DiscreteConfig
from broadbase.nn.tower import TransformerConfig
from broadbase.weights.hf_fields import (
    GLOBAL,
    LOCAL,
    activation,
    layer_types,
    rotary,
    stack,
    tokens,
    with_head,
)
from broadbase.weights.mapping import ImportedModel, TensorRule

SPACE = "text"
BLOCK, LAYER = "towers.main.blocks.*", "model.layers.*"
INV_FREQ = r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"  # in files before 2023
TABLE: dict[str, TensorRule | str] = {
    "spaces.text.embedding": "model.embed_tokens",
    "spaces.text.output": "lm_head",
    "towers.main.final_norm": "model.norm",
    f"{BLOCK}.attention.norm": f"{LAYER}.input_layernorm",
    f"{BLOCK}.attention.branch.q": f"{LAYER}.self_attn.q_proj",
    f"{BLOCK}.attention.branch.k": f"{LAYER}.self_attn.k_proj",
    f"{BLOCK}.attention.branch.v": f"{LAYER}.self_attn.v_proj",
    f"{BLOCK}.attention.branch.out": f"{LAYER}.self_attn.o_proj",
    f"{BLOCK}.attention.branch.q_norm": f"{LAYER}.self_attn.q_norm",
    f"{BLOCK}.attention.branch.k_norm": f"{LAYER}.self_attn.k_norm",
    f"{BLOCK}.feedforward.norm": f"{LAYER}.post_attention_layernorm",
    f"{BLOCK}.feedforward.branch.gate": f"{LAYER}.mlp.gate_proj",
    f"{BLOCK}.feedforward.branch.up": f"{LAYER}.mlp.up_proj",
    f"{BLOCK}.feedforward.branch.down": f"{LAYER}.mlp.down_proj",
}


def gated(config: Mapping[str, Any], field: str = "hidden_act") -> GatedConfig:
    """Return the gated feed-forward that most of them have."""
    return GatedConfig(
        hidden_width=config["intermediate_size"],
        activation=activation(config, field),
        bias=bool(config.get("mlp_bias", False)),
    )


def decoder(
    config: Mapping[str, Any],
    names: Collection[str],
    feedforward: FeedForwardConfig,
    *,
    kinds: Sequence[str] | None = None,
    norm: NormConfig | None = None,
    residual: Callable[..., ResidualConfig] = PreNormConfig,
    table: Mapping[str, TensorRule | str] = TABLE,
    discrete: Mapping[str, Any] | None = None,
    **attention: Any,
) -> ImportedModel:
    """Return a causal decoder.

    `kinds` says of each layer LOCAL or GLOBAL, for configs without `layer_types`; `discrete` and
    `attention` are settings of the token embedding and of attention.
    """
    norm = norm or RMSNormConfig(eps=config["rms_norm_eps"])
    kinds = layer_types(config, kinds or [GLOBAL] * config["num_hidden_layers"])
    layers = {
        kind: BlockConfig(
            attention=_attention(config, kind, attention),
            feedforward=feedforward,
            residual=residual(norm=norm),
            positions=None
            if _positions(config, kind) == _positions(config)
            else _positions(config, kind),
        )
        for kind in set(kinds)
    }
    tower = TransformerConfig(
        width=config["hidden_size"],
        layers=stack(layers[kind] for kind in kinds),
        positions=_positions(config),
        final_norm=norm,
    )
    tied = bool(config.get("tie_word_embeddings", (discrete or {}).get("tied", False)))
    space = DiscreteConfig(
        **{"vocab_size": config["vocab_size"], **(discrete or {}), "tie_embeddings": tied}
    )
    text = tokens(config, space if tied else with_head(space, names, "lm_head"))
    model = ModelConfig(modalities={SPACE: text}, towers={"main": tower})
    copies = {"lm_head.weight": "model.embed_tokens.weight"} if tied else {}
    head_dim = next(iter(layers.values())).attention.head_dim
    theta = _positions(config).theta
    derived = {INV_FREQ: lambda: RotaryConfig(theta=theta).frequencies(head_dim)}
    return ImportedModel(model, "causal", table, "model.", copies=copies, derived=derived)


def _attention(
    config: Mapping[str, Any], kind: str, settings: Mapping[str, Any]
) -> GroupedQueryConfig:
    heads = config["num_attention_heads"]
    shared = {
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "span": WindowConfig(length=config["sliding_window"]) if kind == LOCAL else None,
    }
    return GroupedQueryConfig(**{**shared, **settings})


def _positions(config: Mapping[str, Any], kind: str = GLOBAL) -> Any:
    """Return the rotary embedding of layers of a kind; Gemma 3 has a field for each kind."""
    if kind == LOCAL and "rope_local_base_freq" in config:
        return rotary({"rope_theta": config["rope_local_base_freq"]})
    return rotary(config, kind)
