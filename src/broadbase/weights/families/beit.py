"""BEiT (Bao et al. 2022): offsets in the plane as a bias of attention; hidden patches as codes."""

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
from broadbase.weights.families.vision import described, layers, pictures, stem, tower
from broadbase.weights.hf_fields import require
from broadbase.weights.mapping import ImportedModel, TensorRule
from broadbase.weights.sizes import Ends, ids

MODEL_TYPE = "beit"
MINE, THEIRS = "towers.main.blocks.*", "beit.encoder.layer.*"
BIAS = "relative_position_bias.relative_position_bias_table"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """A BEiT config in our terms: with the head of the codes, or the bare encoder."""
    config = {"num_channels": 3, **config}
    if _each(config):  # two biases at once have no place here
        require(config, use_shared_relative_position_bias=(False,))
    codes = "lm_head.weight" in names
    pooled = bool(config.get("use_mean_pooling", True))  # then the encoder ends without a norm
    spaces: dict[str, ModalityConfig] = {"image": pictures(config)}
    if codes:
        head = DiscreteConfig(vocab_size=config["vocab_size"], bias=True)
        spaces["codes"] = TokensConfig(discrete=head)
    main = _tower(config)
    if pooled and not codes:
        main = main.model_copy(update={"final_norm": None})
    own: dict[str, TensorRule | str] = {
        "spaces.image.mask": TensorRule(
            "beit.embeddings.mask_token", shape=(1, 1, config["hidden_size"])
        ),
        "spaces.codes.embedding": "lm_head",
        "spaces.codes.bias": "lm_head.bias",
        "towers.main.final_norm": "layernorm" if codes else "beit.layernorm",
        "towers.main.own.*.table.weight": _bias(config),
        f"{MINE}.attention.gain": f"{THEIRS}.lambda_1",
        f"{MINE}.feedforward.gain": f"{THEIRS}.lambda_2",
    }
    return ImportedModel(
        ModelConfig(modalities=spaces, towers={"main": main}),
        "full",
        stem(config, "beit.embeddings") | layers(MINE, THEIRS) | own,
        "beit.",
        codecs=("image",),
        kept=r"classifier\..*|beit\.pooler\..*",
        derived={r".*\.relative_position_index": lambda: _index(config)},
    )


def _tower(config: Mapping[str, Any]) -> TransformerConfig:
    """ViT's, with gains and without a bias of keys; offsets in one table, or one a layer."""
    gains = config.get("layer_scale_init_value", 0.1) > 0
    main = tower(config, residual=LayerScaleConfig if gains else PreNormConfig)
    if not config.get("use_absolute_position_embeddings", False):
        main = main.model_copy(update={"positions": NoPositionsConfig()})
    (stack,) = main.layers
    attention = stack.block.attention.model_copy(update={"k_bias": False})
    tables = stack.repeat if _each(config) else 1
    side = config["image_size"] // config["patch_size"]
    biased = _each(config) or config.get("use_shared_relative_position_bias", False)

    def block(table: int) -> BlockConfig:
        own = RelativeBias2DConfig(rows=side, columns=side, table=table) if biased else None
        return stack.block.model_copy(update={"attention": attention, "positions": own})

    repeat = stack.repeat // tables
    each = tuple(LayersConfig(block=block(i), repeat=repeat) for i in range(tables))
    return main.model_copy(update={"layers": each})


def _each(config: Mapping[str, Any]) -> bool:
    return bool(config.get("use_relative_position_bias", False))


def _bias(config: Mapping[str, Any]) -> TensorRule:
    """Where the table of a layer, or that of all layers, lies."""
    whole = f"beit.encoder.{BIAS}"
    return TensorRule(f"{THEIRS}.attention.attention.{BIAS}" if _each(config) else whole)


def _index(config: Mapping[str, Any]) -> Tensor:
    """The number of every offset, the start first, as older files hold it."""
    side = config["image_size"] // config["patch_size"]
    plane = positions((side, side)) + torch.tensor([0, 1, 1])
    places = torch.cat([torch.zeros(1, 3, dtype=plane.dtype), plane]).unsqueeze(0)
    return offsets(places, places, side, side)[0]


def write(model: ModelConfig, said: Ends) -> dict[str, Any] | None:
    """The config.json of an encoder of a model's sizes with the head of its codes: one table of
    offsets, and no gains where it has none."""
    config, discrete = described(model, "main"), ids(model.modalities.get("codes"))
    if config is None or discrete is None:
        return None
    residual = model.tree()["towers"]["main"]["layers"][0]["block"]["residual"]
    own = {
        "vocab_size": discrete.vocab_size,
        "layer_scale_init_value": 0.1 if residual["name"] == LayerScaleConfig().name else 0.0,
        "use_mask_token": True,
        "use_shared_relative_position_bias": True,
    }
    return {"architectures": ["BeitForMaskedImageModeling"], **config, **own}
