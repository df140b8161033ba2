"""ViT-MAE (He et al. 2022): an encoder of the visible patches, a decoder of all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.model.model import ModelConfig
from broadbase.nn.connector import LinearConfig
from broadbase.nn.spaces.regression import RegressionConfig
from broadbase.weights.families.vision import (
    IMAGENET,
    described,
    image_modality,
    layers,
    stem,
    tower,
)
from broadbase.weights.mapping import ImportedModel, TensorRule
from broadbase.weights.sizes import Ends

MODEL_TYPE = "vit_mae"
SIDES = {"encoder": "", "decoder": "decoder_"}  # the beginnings of their size fields


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a ViT-MAE config as the model of objective `mae`.

    Positions are fixed sines, which the files hold.
    """
    config = {"num_channels": 3, **config}
    patch, width = config["patch_size"], config["decoder_hidden_size"]
    channels, count = patch * patch * config["num_channels"], (config["image_size"] // patch) ** 2
    pixels = RegressionConfig(channels=channels, normalise=bool(config.get("norm_pix_loss", False)))
    model = ModelConfig(
        modalities={"image": image_modality(config, resample="bilinear", **IMAGENET)},
        heads={"pixels": pixels},
        towers={"encoder": tower(config), "decoder": tower(config, size="decoder_")},
        tower_of={"pixels": "decoder"},
        connectors=(LinearConfig(source="encoder", target="decoder"),),
    )
    extra: dict[str, TensorRule | str] = {
        "towers.encoder.final_norm": "vit.layernorm",
        "connectors.encoder>decoder": "decoder.decoder_embed",
        "spaces.pixels.mask": TensorRule("decoder.mask_token", shape=(1, 1, width)),
        "spaces.pixels.output": "decoder.decoder_pred",
        "towers.decoder.final_norm": "decoder.decoder_norm",
        "towers.decoder.positions.place.weight": TensorRule(
            "decoder.decoder_pos_embed", shape=(1, count + 1, width)
        ),
    }
    return ImportedModel(
        model,
        "full",
        stem(config, "vit.embeddings", "encoder")
        | layers("towers.encoder.blocks.*", "vit.encoder.layer.*")
        | layers("towers.decoder.blocks.*", "decoder.decoder_layers.*")
        | extra,
        spellings={r"^decoder\.decoder_encoder\.layer\.": "decoder.decoder_layers."},
        codecs=("image",),
    )


def write(model: ModelConfig, ends: Ends) -> dict[str, Any] | None:
    """Return the config.json of an encoder and a decoder of a model's sizes."""
    encoder, decoder = (described(model, side, size) for side, size in SIDES.items())
    pixels = model.heads.get("pixels")
    if encoder is None or decoder is None or not isinstance(pixels, RegressionConfig):
        return None
    extra = {"norm_pix_loss": pixels.normalise, "qkv_bias": True}
    return {"architectures": ["ViTMAEForPreTraining"], **decoder, **encoder, **extra}
