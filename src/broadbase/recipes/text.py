"""Text: natural language, byte-level BPE: a Llama."""

from __future__ import annotations

from broadbase.modalities.text import TextConfig
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sequence_run
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build a causal model of the files of a folder."""
    return sequence_run("text", TextConfig(), depth, data, normed=True)


RECIPE = Recipe("text", "natural language, byte-level BPE: a Llama", build)
