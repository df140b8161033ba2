"""BEiT (Bao et al. 2022): relative positions as a bias; masked patches as codes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from broadbase.core.contracts import ModalityConfig
from broadbase.core.view import positions
from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.block import BlockConfig, LayerScaleConfig, PreNormConfig
from broadbase.nn.positions import NoPositionsConfig
from broadbase.nn.relative import RelativeBias2DConfig, offsets
from broadbase.nn.spaces.discrete import DiscreteConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.families.vision import described, image_modality, layers, stem, tower
from broadbase.weights.hf_fields import require
from broadbase.weights.mapping import ImportedModel, TensorRule
from broadbase.weights.sizes import Ends, ids

MODEL_TYPE = "beit"
BLOCK, LAYER = "towers.main.blocks.*", "beit.encoder.layer.*"
BIAS = "relative_position_bias.relative_position_bias_table"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a BEiT config: an encoder with the head that predicts codes, or without."""
    config = {"num_channels": 3, **config}
    if _per_layer(config):  # the model has no second bias
        require(config, use_shared_relative_position_bias=(False,))
    codes = "lm_head.weight" in names
    pooled = bool(config.get("use_mean_pooling", True))  # then the encoder ends without a norm
    spaces: dict[str, ModalityConfig] = {"image": image_modality(config)}
    if codes:
        head = DiscreteConfig(vocab_size=config["vocab_size"], bias=True)
        spaces["codes"] = TokensConfig(discrete=head)
    main = _tower(config)
    if pooled and not codes:
        main = main.replace(final_norm=None)
    extra: dict[str, TensorRule | str] = {
        "spaces.image.mask": TensorRule(
            "beit.embeddings.mask_token", shape=(1, 1, config["hidden_size"])
        ),
        "spaces.codes.embedding": "lm_head",
        "spaces.codes.bias": "lm_head.bias",
        "towers.main.final_norm": "layernorm" if codes else "beit.layernorm",
        "towers.main.own.*.table.weight": _bias(config),
        f"{BLOCK}.attention.gain": f"{LAYER}.lambda_1",
        f"{BLOCK}.feedforward.gain": f"{LAYER}.lambda_2",
    }
    return ImportedModel(
        ModelConfig(modalities=spaces, towers={"main": main}),
        "full",
        stem(config, "beit.embeddings") | layers(BLOCK, LAYER) | extra,
        "beit.",
        codecs=("image",),
        kept=r"classifier\..*|beit\.pooler\..*",
        derived={r".*\.relative_position_index": lambda: _index(config)},
    )


def _tower(config: Mapping[str, Any]) -> TransformerConfig:
    """Return ViT's tower with gains, without a bias of keys, and with tables of relative positions.

    All layers share one table, or each has one.
    """
    gains = config.get("layer_scale_init_value", 0.1) > 0
    main = tower(config, residual=LayerScaleConfig if gains else PreNormConfig)
    if not config.get("use_absolute_position_embeddings", False):
        main = main.replace(positions=NoPositionsConfig())
    (stack,) = main.layers
    attention = stack.block.attention.replace(k_bias=False)
    tables = stack.repeat if _per_layer(config) else 1
    side = config["image_size"] // config["patch_size"]
    biased = _per_layer(config) or config.get("use_shared_relative_position_bias", False)

    def block(table: int) -> BlockConfig:
        bias = RelativeBias2DConfig(rows=side, columns=side, table=table) if biased else None
        return stack.block.replace(attention=attention, positions=bias)

    repeat = stack.repeat // tables
    stacks = tuple(LayersConfig(block=block(i), repeat=repeat) for i in range(tables))
    return main.replace(layers=stacks)


def _per_layer(config: Mapping[str, Any]) -> bool:
    return bool(config.get("use_relative_position_bias", False))


def _bias(config: Mapping[str, Any]) -> TensorRule:
    """Return the rule of each layer's table, or of the one that all layers share."""
    shared = f"beit.encoder.{BIAS}"
    return TensorRule(f"{LAYER}.attention.attention.{BIAS}" if _per_layer(config) else shared)


def _index(config: Mapping[str, Any]) -> Tensor:
    """Return the index of every pair of tokens into the table, the start first.

    Older files hold it as a tensor.
    """
    side = config["image_size"] // config["patch_size"]
    plane = positions((side, side)) + torch.tensor([0, 1, 1])
    points = torch.cat([torch.zeros(1, 3, dtype=plane.dtype), plane]).unsqueeze(0)
    return offsets(points, points, side, side)[0]


def write(model: ModelConfig, ends: Ends) -> dict[str, Any] | None:
    """Return the config.json of an encoder of a model's sizes, with a head that predicts codes.

    All layers share one table; there are no gains if the model has none.
    """
    config, discrete = described(model, "main"), ids(model.modalities.get("codes"))
    if config is None or discrete is None:
        return None
    residual = model.tree()["towers"]["main"]["layers"][0]["block"]["residual"]
    extra = {
        "vocab_size": discrete.vocab_size,
        "layer_scale_init_value": 0.1 if residual["name"] == LayerScaleConfig().name else 0.0,
        "use_mask_token": True,
        "use_shared_relative_position_bias": True,
    }
    return {"architectures": ["BeitForMaskedImageModeling"], **config, **extra}
