"""GPT-2 (Radford et al. 2019): in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig, PreNormConfig
from broadbase.nn.feedforward import PlainConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.positions import LearnedConfig
from broadbase.nn.spaces import DiscreteConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.architecture import Link, Published, linears, only

MODEL_TYPE = "gpt2"


def read(config: Mapping[str, Any]) -> Published:
    """A GPT-2 config in our terms."""
    only(
        config,
        activation_function=("gelu_new", "gelu_pytorch_tanh"),
        tie_word_embeddings=(True,),
        scale_attn_weights=(True,),
        scale_attn_by_inverse_layer_idx=(False,),
        add_cross_attention=(False,),
    )
    width, heads = config["n_embd"], config["n_head"]
    norm = LayerNormConfig(eps=config["layer_norm_epsilon"])
    block = BlockConfig(
        attention=GroupedQueryConfig(
            heads=heads, kv_heads=heads, head_dim=width // heads, bias=True, out_bias=True
        ),
        feedforward=PlainConfig(hidden=config.get("n_inner") or 4 * width, activation="gelu_tanh"),
        residual=PreNormConfig(norm=norm),
    )
    tower = TransformerConfig(
        width=width,
        layers=(LayersConfig(block=block, repeat=config["n_layer"]),),
        positions=LearnedConfig(length=config["n_positions"]),
        final_norm=norm,
    )
    tokens = TokensConfig(
        discrete=DiscreteConfig(vocabulary=config["vocab_size"]),
        start=config.get("bos_token_id") or 0,
        end=config.get("eos_token_id"),
    )
    model = ModelConfig(modalities={"text": tokens}, towers={"main": tower})
    # attn.bias is a stored causal mask; lm_head.weight is the embedding once more
    ignored = r".*\.attn\.(masked_)?bias|lm_head\.weight"
    links = tuple(_links(config["n_layer"], width))
    return Published(model, "causal", links, "transformer.", ignored)


def _links(layers: int, width: int) -> Iterator[Link]:
    yield Link("spaces.text.embedding.weight", "transformer.wte.weight")
    yield Link("towers.main.positions.place.weight", "transformer.wpe.weight")
    yield from linears("towers.main.final_norm", "transformer.ln_f", bias=True)
    for i in range(layers):
        mine, theirs = f"towers.main.blocks.{i}", f"transformer.h.{i}"
        yield from linears(f"{mine}.attention.norm", f"{theirs}.ln_1", bias=True)
        yield from linears(f"{mine}.feedforward.norm", f"{theirs}.ln_2", bias=True)
        for j, name in enumerate("qkv"):
            yield from linears(
                f"{mine}.attention.branch.{name}",
                f"{theirs}.attn.c_attn",
                bias=True,
                transposed=True,
                part=(j * width, (j + 1) * width),
            )
        for ours, name in (
            ("attention.branch.out", "attn.c_proj"),
            ("feedforward.branch.up", "mlp.c_fc"),
            ("feedforward.branch.down", "mlp.c_proj"),
        ):
            yield from linears(f"{mine}.{ours}", f"{theirs}.{name}", bias=True, transposed=True)
