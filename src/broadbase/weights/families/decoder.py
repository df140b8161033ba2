"""What Llama and its descendants share: names, and most of their fields."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from broadbase.model.model import ModelConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig, PreNormConfig, ResidualConfig
from broadbase.nn.feedforward import FeedForwardConfig, GatedConfig
from broadbase.nn.norm import NormConfig, RMSNormConfig
from broadbase.nn.patterns import WindowConfig
from broadbase.nn.positions import RotaryConfig
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
MINE, THEIRS = "towers.main.blocks.*", "model.layers.*"
TURNS = r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"  # of files before 2023
TABLE: dict[str, TensorRule | str] = {
    "spaces.text.embedding": "model.embed_tokens",
    "spaces.text.output": "lm_head",
    "towers.main.final_norm": "model.norm",
    f"{MINE}.attention.norm": f"{THEIRS}.input_layernorm",
    f"{MINE}.attention.branch.q": f"{THEIRS}.self_attn.q_proj",
    f"{MINE}.attention.branch.k": f"{THEIRS}.self_attn.k_proj",
    f"{MINE}.attention.branch.v": f"{THEIRS}.self_attn.v_proj",
    f"{MINE}.attention.branch.out": f"{THEIRS}.self_attn.o_proj",
    f"{MINE}.attention.branch.q_norm": f"{THEIRS}.self_attn.q_norm",
    f"{MINE}.attention.branch.k_norm": f"{THEIRS}.self_attn.k_norm",
    f"{MINE}.feedforward.norm": f"{THEIRS}.post_attention_layernorm",
    f"{MINE}.feedforward.branch.gate": f"{THEIRS}.mlp.gate_proj",
    f"{MINE}.feedforward.branch.up": f"{THEIRS}.mlp.up_proj",
    f"{MINE}.feedforward.branch.down": f"{THEIRS}.mlp.down_proj",
}


def gated(config: Mapping[str, Any], field: str = "hidden_act") -> GatedConfig:
    """The gated unit of most of them."""
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
    """A causal decoder; `kinds` are the layers' LOCAL or GLOBAL where the config does not say,
    `discrete` and `attention` settings of the Space and of attention."""
    norm = norm or RMSNormConfig(eps=config["rms_norm_eps"])
    kinds = layer_types(config, kinds or [GLOBAL] * config["num_hidden_layers"])
    layers = {
        kind: BlockConfig(
            attention=_attention(config, kind, attention),
            feedforward=feedforward,
            residual=residual(norm=norm),
            positions=None if _turns(config, kind) == _turns(config) else _turns(config, kind),
        )
        for kind in set(kinds)
    }
    tower = TransformerConfig(
        width=config["hidden_size"],
        layers=stack(layers[kind] for kind in kinds),
        positions=_turns(config),
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
    turns = {TURNS: lambda: RotaryConfig(theta=_turns(config).theta).frequencies(head_dim)}
    return ImportedModel(model, "causal", table, "model.", copies=copies, derived=turns)


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


def _turns(config: Mapping[str, Any], kind: str = GLOBAL) -> Any:
    """The rotary embedding of layers of a kind; hub files of Gemma 3 say it in two fields."""
    if kind == LOCAL and "rope_local_base_freq" in config:
        return rotary({"rope_theta": config["rope_local_base_freq"]})
    return rotary(config, kind)
