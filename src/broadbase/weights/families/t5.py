"""T5 (Raffel et al. 2020) and T5 v1.1: an encoder and a decoder with relative positions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig, PreNormConfig
from broadbase.nn.feedforward import FeedForwardConfig, GatedConfig, MLPConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.nn.relative import T5RelativeBiasConfig
from broadbase.nn.spaces.discrete import DiscreteConfig, IdentityHeadConfig, ScaledConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.families.encdec import SIDES
from broadbase.weights.hf_fields import activation, first
from broadbase.weights.mapping import ImportedModel, TensorRule
from broadbase.weights.sizes import Ends, Shape, only_ids

MODEL_TYPE = "t5"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a T5 config; the head is tied to the embedding unless the file has one."""
    tied = "lm_head.weight" not in names or bool(config.get("tie_word_embeddings", True))
    scaled = bool(config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True)))
    discrete = DiscreteConfig(
        vocab_size=config["vocab_size"],
        tie_embeddings=tied,
        head=ScaledConfig() if scaled else IdentityHeadConfig(),
    )
    start = config.get("decoder_start_token_id")
    text = TokensConfig(
        discrete=discrete,
        start=config["pad_token_id"] if start is None else start,
        end=first(config["eos_token_id"]),
        before=(),
    )
    towers = {side: _tower(config, side) for side in SIDES}
    repeated = ["encoder.embed_tokens", "decoder.embed_tokens", *(["lm_head"] if tied else [])]
    return ImportedModel(
        ModelConfig(modalities={"text": text}, towers=towers),
        "full",
        _table(config["feed_forward_proj"].startswith("gated")),
        copies={f"{name}.weight": "shared.weight" for name in repeated},
        # old files have a table for cross-attention, which no model uses
        kept=r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
    )


def _tower(config: Mapping[str, Any], side: str) -> TransformerConfig:
    norm = RMSNormConfig(eps=config["layer_norm_epsilon"])
    heads, layers = config["num_heads"], config["num_layers"]
    attention = GroupedQueryConfig(heads=heads, kv_heads=heads, head_dim=config["d_kv"], scale=1.0)
    if side == "decoder":
        layers = config.get("num_decoder_layers") or layers
    block = BlockConfig(
        attention=attention,
        feedforward=_feedforward(config),
        residual=PreNormConfig(norm=norm),
        cross=attention if side == "decoder" else None,
    )
    return TransformerConfig(
        width=config["d_model"],
        layers=(LayersConfig(block=block, repeat=layers),),
        positions=T5RelativeBiasConfig(
            buckets=config["relative_attention_num_buckets"],
            max_distance=config.get("relative_attention_max_distance", 128),
            bidirectional=side == "encoder",
        ),
        final_norm=norm,
    )


def _feedforward(config: Mapping[str, Any]) -> FeedForwardConfig:
    """Return the feed-forward: `relu`, or `gated-gelu`, which means its tanh approximation."""
    gate, _, name = config["feed_forward_proj"].rpartition("-")
    word = {"act": "gelu_new" if gate and name == "gelu" else name}
    if gate:
        return GatedConfig(hidden_width=config["d_ff"], activation=activation(word, "act"))
    return MLPConfig(hidden_width=config["d_ff"], activation=activation(word, "act"), bias=False)


def _table(gated: bool) -> dict[str, TensorRule | str]:
    rules: dict[str, TensorRule | str] = {
        "spaces.text.embedding": "shared",
        "spaces.text.output": "lm_head",
    }
    for side, last in (("encoder", 1), ("decoder", 2)):
        block, layer = f"towers.{side}.blocks.*", f"{side}.block.*.layer"
        first_layer = f"{side}.block.0.layer.0.SelfAttention"
        rules[f"towers.{side}.positions.table"] = f"{first_layer}.relative_attention_bias"
        rules[f"towers.{side}.final_norm"] = f"{side}.final_layer_norm"
        for module, i, name in (
            ("attention", 0, "SelfAttention"),
            ("cross", 1, "EncDecAttention"),
        ):
            rules[f"{block}.{module}.norm"] = f"{layer}.{i}.layer_norm"
            for part in ("q", "k", "v", "out"):
                rules[f"{block}.{module}.branch.{part}"] = f"{layer}.{i}.{name}.{part[0]}"
        dense = f"{layer}.{last}.DenseReluDense"
        rules[f"{block}.feedforward.norm"] = f"{layer}.{last}.layer_norm"
        rules[f"{block}.feedforward.branch.gate"] = f"{dense}.wi_0"
        rules[f"{block}.feedforward.branch.up"] = f"{dense}.wi_1" if gated else f"{dense}.wi"
        rules[f"{block}.feedforward.branch.down"] = f"{dense}.wo"
    return rules


def write(model: ModelConfig, ends: Ends) -> dict[str, Any] | None:
    """Return the config.json of a T5 v1.1 of a model's sizes.

    T5 v1.1 has a gated feed-forward and an untied head; a tied and scaled head, as in the first
    T5, stays.
    """
    encoder, decoder = (Shape.of(model, side) for side in SIDES)
    discrete = only_ids(model)
    if encoder is None or decoder is None or discrete is None:
        return None
    relative = encoder.positions
    if not isinstance(relative, T5RelativeBiasConfig):
        relative = T5RelativeBiasConfig()
    plain = encoder.plain
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "d_model": encoder.width,
        "d_kv": encoder.attention.head_dim,
        "d_ff": plain.hidden_width if plain else encoder.gated,
        "num_heads": encoder.attention.heads,
        "num_layers": encoder.layers,
        "num_decoder_layers": decoder.layers,
        "feed_forward_proj": encoder.activation("gelu") if plain else "gated-gelu",
        "layer_norm_epsilon": encoder.eps(RMSNormConfig, 1e-6),
        "relative_attention_num_buckets": relative.buckets,
        "relative_attention_max_distance": relative.max_distance,
        "vocab_size": discrete.vocab_size,
        "tie_word_embeddings": isinstance(discrete.head, ScaledConfig),
        "is_encoder_decoder": True,
        "decoder_start_token_id": ends.start,
        "pad_token_id": ends.start,
        "eos_token_id": ends.end,
    }
