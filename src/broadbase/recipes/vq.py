"""VQ: pictures as ids, a code for each patch (van den Oord et al. 2017, by transformers)."""

from __future__ import annotations

from broadbase.nn.spaces.regression import RegressionConfig
from broadbase.nn.vector_quantizer import VectorQuantizerConfig
from broadbase.objectives.autoencoder import AutoencoderConfig
from broadbase.recipes import dial, image
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build an encoder and a decoder, half the `depth` each, and a codebook of 512 between them."""
    config = image.build(depth, data)
    pixels = RegressionConfig(normalise=False)
    (layers,) = (tower := dial.backbone(depth)).layers
    half = layers.replace(repeat=max(1, depth // 2))
    tower = tower.replace(layers=(half,))
    model = config.model.replace(
        heads={"pixels": pixels},
        towers={"encoder": tower, "decoder": tower},
        tower_of={"pixels": "decoder"},
        connectors=(VectorQuantizerConfig(source="encoder", target="decoder"),),
    )
    return config.replace(recipe="vq", model=model, objective=AutoencoderConfig())


RECIPE = Recipe("vq", "pictures as ids: a tokenizer for codes", build)
