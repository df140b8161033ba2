"""T5: text with missing spans, written by a decoder (Raffel et al. 2020)."""

from __future__ import annotations

from broadbase.modalities.text import TextConfig
from broadbase.objectives.denoising import SpanCorruptionConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import modality_of, sequence_run
from broadbase.run.config import RunConfig

SENTINELS = 100  # as in the paper


def build(depth: int, data: str | None) -> RunConfig:
    """Build an encoder and a decoder of `depth` layers; the decoder writes the missing spans."""
    modality = modality_of(data, TextConfig, extra_ids=SENTINELS)
    return sequence_run(
        modality.name,
        modality,
        depth,
        data,
        recipe="t5",
        objective=SpanCorruptionConfig(),
        towers=dial.encoder_decoder(depth),
    )


RECIPE = Recipe("t5", "text, missing spans written by a decoder", build)
