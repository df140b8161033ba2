"""ViT-MAE (He et al. 2022): an encoder of what is seen, a decoder that tells the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.model.model import ModelConfig
from broadbase.nn.connector import LinearConfig
from broadbase.nn.spaces.regression import RegressionConfig
from broadbase.weights.families.vision import IMAGENET, described, layers, pictures, stem, tower
from broadbase.weights.mapping import ImportedModel, TensorRule
from broadbase.weights.sizes import Ends

MODEL_TYPE = "vit_mae"
SIDES = {"encoder": "", "decoder": "decoder_"}  # and how their fields begin


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """A ViT-MAE config in our terms: as the objective `mae` trains it. Places are fixed sines,
    which the files hold."""
    config = {"num_channels": 3, **config}
    patch, width = config["patch_size"], config["decoder_hidden_size"]
    channels, places = patch * patch * config["num_channels"], (config["image_size"] // patch) ** 2
    pixels = RegressionConfig(channels=channels, normalise=bool(config.get("norm_pix_loss", False)))
    model = ModelConfig(
        modalities={"image": pictures(config, resample="bilinear", **IMAGENET)},
        heads={"pixels": pixels},
        towers={"encoder": tower(config), "decoder": tower(config, size="decoder_")},
        tower_of={"pixels": "decoder"},
        connectors=(LinearConfig(source="encoder", target="decoder"),),
    )
    own: dict[str, TensorRule | str] = {
        "towers.encoder.final_norm": "vit.layernorm",
        "connectors.encoder>decoder": "decoder.decoder_embed",
        "spaces.pixels.mask": TensorRule("decoder.mask_token", shape=(1, 1, width)),
        "spaces.pixels.output": "decoder.decoder_pred",
        "towers.decoder.final_norm": "decoder.decoder_norm",
        "towers.decoder.positions.place.weight": TensorRule(
            "decoder.decoder_pos_embed", shape=(1, places + 1, width)
        ),
    }
    return ImportedModel(
        model,
        "full",
        stem(config, "vit.embeddings", "encoder")
        | layers("towers.encoder.blocks.*", "vit.encoder.layer.*")
        | layers("towers.decoder.blocks.*", "decoder.decoder_layers.*")
        | own,
        spellings={r"^decoder\.decoder_encoder\.layer\.": "decoder.decoder_layers."},
        codecs=("image",),
    )


def write(model: ModelConfig, said: Ends) -> dict[str, Any] | None:
    """The config.json of an encoder and a decoder of a model's sizes."""
    encoder, decoder = (described(model, side, size) for side, size in SIDES.items())
    pixels = model.heads.get("pixels")
    if encoder is None or decoder is None or not isinstance(pixels, RegressionConfig):
        return None
    own = {"norm_pix_loss": pixels.normalise, "qkv_bias": True}
    return {"architectures": ["ViTMAEForPreTraining"], **decoder, **encoder, **own}
