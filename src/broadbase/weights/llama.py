"""Llama (Touvron et al. 2023; Llama 3): in, and out for text decoders trained here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from broadbase.core.errors import ConfigError
from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig, PreNormConfig
from broadbase.nn.feedforward import GatedConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.nn.positions import LinearScaling, Llama3Scaling, RotaryConfig, RotaryScaling
from broadbase.nn.spaces import DirectConfig, DiscreteConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.architecture import Link, Published, linears, only

MODEL_TYPE = "llama"
SPACE = "text"


def read(config: Mapping[str, Any]) -> Published:
    """A Llama config in our terms."""
    only(config, hidden_act=("silu",), pretraining_tp=(1,), mlp_bias=(False, True))
    width, heads = config["hidden_size"], config["num_attention_heads"]
    norm = RMSNormConfig(eps=config["rms_norm_eps"])
    bias = bool(config.get("attention_bias", False))
    block = BlockConfig(
        attention=GroupedQueryConfig(
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or width // heads,
            bias=bias,
            out_bias=bias,
        ),
        feedforward=GatedConfig(
            hidden=config["intermediate_size"], bias=bool(config.get("mlp_bias", False))
        ),
        residual=PreNormConfig(norm=norm),
    )
    tower = TransformerConfig(
        width=width,
        layers=(LayersConfig(block=block, repeat=config["num_hidden_layers"]),),
        positions=_rotary(config),
        final_norm=norm,
    )
    tokens = TokensConfig(
        discrete=DiscreteConfig(
            vocabulary=config["vocab_size"], tied=bool(config.get("tie_word_embeddings", False))
        ),
        start=config.get("bos_token_id") or 0,
        end=_first(config.get("eos_token_id")),
    )
    model = ModelConfig(modalities={SPACE: tokens}, towers={"main": tower})
    return Published(
        model, "causal", tuple(links(model, SPACE)), "model.", r"model\.rotary_emb\..*"
    )


def links(model: ModelConfig, space: str) -> Iterator[Link]:
    """Our tensors and Llama's."""
    tower, discrete = _tower(model), _discrete(model, space)
    block = tower.layers[0].block
    assert isinstance(block.attention, GroupedQueryConfig)
    assert isinstance(block.feedforward, GatedConfig)
    assert discrete is not None
    yield Link(f"spaces.{space}.embedding.weight", "model.embed_tokens.weight")
    if not discrete.tied:
        yield Link(f"spaces.{space}.output.weight", "lm_head.weight")
    yield Link("towers.main.final_norm.weight", "model.norm.weight")
    for i in range(tower.layers[0].repeat):
        mine, theirs = f"towers.main.blocks.{i}", f"model.layers.{i}"
        yield Link(f"{mine}.attention.norm.weight", f"{theirs}.input_layernorm.weight")
        yield Link(f"{mine}.feedforward.norm.weight", f"{theirs}.post_attention_layernorm.weight")
        bias = {"q": block.attention.bias, "k": block.attention.bias, "v": block.attention.bias}
        for name, has in {**bias, "o": block.attention.out_bias}.items():
            ours = f"{mine}.attention.branch.{'out' if name == 'o' else name}"
            yield from linears(ours, f"{theirs}.self_attn.{name}_proj", has)
        for name in ("gate", "up", "down"):
            ours = f"{mine}.feedforward.branch.{name}"
            yield from linears(ours, f"{theirs}.mlp.{name}_proj", block.feedforward.bias)


def write(model: ModelConfig, start: int, end: int | None) -> dict[str, Any] | None:
    """The config.json of a text decoder trained here; None where it is not a Llama."""
    space = next(iter(model.modalities))
    tower = model.towers.get("main")
    if len(model.modalities) > 1 or len(model.towers) > 1 or not _is_llama(tower):
        return None
    assert isinstance(tower, TransformerConfig)
    discrete = _discrete(model, space)
    if discrete is None or discrete.bias or not isinstance(discrete.head, DirectConfig):
        return None
    block, positions = tower.layers[0].block, tower.positions
    assert isinstance(block.attention, GroupedQueryConfig)
    assert isinstance(positions, RotaryConfig)
    assert isinstance(tower.final_norm, RMSNormConfig)
    return {
        "model_type": MODEL_TYPE,
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": tower.width,
        "intermediate_size": block.feedforward.hidden,
        "num_hidden_layers": tower.layers[0].repeat,
        "num_attention_heads": block.attention.heads,
        "num_key_value_heads": block.attention.kv_heads,
        "head_dim": block.attention.head_dim,
        "attention_bias": block.attention.bias,
        "rms_norm_eps": tower.final_norm.eps,
        "rope_theta": positions.theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": positions.theta},
        "hidden_act": "silu",
        "vocab_size": discrete.vocabulary + discrete.controls,
        "tie_word_embeddings": discrete.tied,
        "max_position_embeddings": 32768,
        "bos_token_id": start,
        "eos_token_id": end,
        "dtype": "float32",
    }


def _is_llama(tower: object) -> bool:
    if not isinstance(tower, TransformerConfig) or len(tower.layers) != 1 or tower.input_norm:
        return False
    block, norm = tower.layers[0].block, tower.final_norm
    attention, feedforward = block.attention, block.feedforward
    return (
        isinstance(norm, RMSNormConfig)
        and block.residual == PreNormConfig(norm=norm)
        and block.cross is None
        and isinstance(attention, GroupedQueryConfig)
        and attention.qk_norm is None
        and attention.bias == attention.out_bias
        and isinstance(feedforward, GatedConfig)
        and feedforward.activation == "silu"
        and not feedforward.bias
        and isinstance(tower.positions, RotaryConfig)
        and tower.positions.scaling is None
    )


def _rotary(config: Mapping[str, Any]) -> RotaryConfig:
    """transformers 5 keeps all of it in rope_parameters, earlier ones in two fields."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = rope.get("rope_theta") or config.get("rope_theta") or 10000.0
    kind = rope.get("rope_type") or rope.get("type") or "default"
    scaling: dict[str, RotaryScaling | None] = {"default": None}
    if kind == "linear":
        scaling[kind] = LinearScaling(factor=rope["factor"])
    if kind == "llama3":
        scaling[kind] = Llama3Scaling(
            factor=rope["factor"],
            low=rope["low_freq_factor"],
            high=rope["high_freq_factor"],
            original=rope["original_max_position_embeddings"],
        )
    if kind not in scaling:
        raise ConfigError(f"config.json: rope_type={kind!r}; supported: default, linear, llama3")
    return RotaryConfig(theta=theta, scaling=scaling[kind])


def _tower(model: ModelConfig) -> TransformerConfig:
    tower = model.towers["main"]
    assert isinstance(tower, TransformerConfig)
    return tower


def _discrete(model: ModelConfig, space: str) -> DiscreteConfig | None:
    discrete = getattr(model.modalities[space], "discrete", None)
    return discrete if isinstance(discrete, DiscreteConfig) else None


def _first(value: Any) -> int | None:
    first: int | None = value[0] if isinstance(value, list) else value
    return first
