"""BART: text with hidden spans, restored by a decoder (Lewis et al. 2020)."""

from __future__ import annotations

from broadbase.modalities.text import TextConfig
from broadbase.objectives.denoising import InfillingConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import modality_of, sequence_run
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build an encoder and a decoder of `depth` layers; the decoder writes the entire document."""
    modality = modality_of(data, TextConfig)
    return sequence_run(
        modality.name,
        modality,
        depth,
        data,
        recipe="bart",
        objective=InfillingConfig(),
        towers=dial.encoder_decoder(depth),
    )


RECIPE = Recipe("bart", "text, a damaged document restored by a decoder", build)
