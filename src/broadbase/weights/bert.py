"""BERT (Devlin et al. 2019): in, with its masked-language-model head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig, PostNormConfig
from broadbase.nn.feedforward import Activation, PlainConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.positions import LearnedConfig
from broadbase.nn.spaces import DiscreteConfig, TransformConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.architecture import Link, Published, linears, only

MODEL_TYPE = "bert"
ACTIVATIONS: dict[str, Activation] = {"gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu"}
CLS, SEP, MASK = 101, 102, 103  # in the published vocabularies


def read(config: Mapping[str, Any]) -> Published:
    """A BERT config in our terms."""
    only(
        config,
        hidden_act=tuple(ACTIVATIONS),
        position_embedding_type=("absolute",),
        tie_word_embeddings=(True,),
        is_decoder=(False,),
    )
    width, heads = config["hidden_size"], config["num_attention_heads"]
    activation, norm = (
        ACTIVATIONS[config["hidden_act"]],
        LayerNormConfig(eps=config["layer_norm_eps"]),
    )
    block = BlockConfig(
        attention=GroupedQueryConfig(
            heads=heads, kv_heads=heads, head_dim=width // heads, bias=True, out_bias=True
        ),
        feedforward=PlainConfig(hidden=config["intermediate_size"], activation=activation),
        residual=PostNormConfig(norm=norm),
    )
    tower = TransformerConfig(
        width=width,
        layers=(LayersConfig(block=block, repeat=config["num_hidden_layers"]),),
        positions=LearnedConfig(
            length=config["max_position_embeddings"], parts=config["type_vocab_size"]
        ),
        input_norm=norm,
        final_norm=None,
    )
    vocabulary = config["vocab_size"]
    discrete = DiscreteConfig(
        vocabulary=vocabulary,
        bias=True,
        head=TransformConfig(activation=activation, norm=norm),
        mask_id=min(MASK, vocabulary - 1),
    )
    tokens = TokensConfig(
        discrete=discrete, start=min(CLS, vocabulary - 1), end=min(SEP, vocabulary - 1)
    )
    model = ModelConfig(modalities={"text": tokens}, towers={"main": tower})
    # the decoder is the embedding and the bias once more; pooler and next-sentence head are unused
    ignored = r"bert\.pooler\..*|cls\.(seq_relationship|predictions\.decoder)\..*|.*position_ids"
    links = tuple(_links(config["num_hidden_layers"]))
    return Published(model, "full", links, "bert.", ignored)


def _links(layers: int) -> Iterator[Link]:
    embeddings, head = "bert.embeddings", "cls.predictions"
    yield Link("spaces.text.embedding.weight", f"{embeddings}.word_embeddings.weight")
    yield Link("towers.main.positions.place.weight", f"{embeddings}.position_embeddings.weight")
    yield Link("towers.main.positions.part.weight", f"{embeddings}.token_type_embeddings.weight")
    yield from linears("towers.main.input_norm", f"{embeddings}.LayerNorm", bias=True)
    yield Link("spaces.text.bias", f"{head}.bias")
    yield from linears("spaces.text.head.linear", f"{head}.transform.dense", bias=True)
    yield from linears("spaces.text.head.norm", f"{head}.transform.LayerNorm", bias=True)
    for i in range(layers):
        mine, theirs = f"towers.main.blocks.{i}", f"bert.encoder.layer.{i}"
        for ours, name in (
            ("attention.branch.q", "attention.self.query"),
            ("attention.branch.k", "attention.self.key"),
            ("attention.branch.v", "attention.self.value"),
            ("attention.branch.out", "attention.output.dense"),
            ("attention.norm", "attention.output.LayerNorm"),
            ("feedforward.branch.up", "intermediate.dense"),
            ("feedforward.branch.down", "output.dense"),
            ("feedforward.norm", "output.LayerNorm"),
        ):
            yield from linears(f"{mine}.{ours}", f"{theirs}.{name}", bias=True)
