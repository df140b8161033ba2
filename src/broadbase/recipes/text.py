"""Text: natural language, byte-level BPE: a Llama."""

from __future__ import annotations

from pathlib import Path

from broadbase.modalities.text import TextConfig
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sequence_run
from broadbase.run import RunConfig


def build(depth: int, data: Path | None) -> RunConfig:
    """Causal modelling of the files of a folder."""
    return sequence_run("text", TextConfig(), depth, data, pattern="**/*.txt")


RECIPE = Recipe("text", "natural language, byte-level BPE: a Llama", build)
