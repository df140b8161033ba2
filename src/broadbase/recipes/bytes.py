"""Bytes: any text, one place a byte, no tokenizer: a Llama."""

from __future__ import annotations

from pathlib import Path

from broadbase.modalities.bytes import BytesConfig
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sequence_run
from broadbase.run import RunConfig


def build(depth: int, data: Path | None) -> RunConfig:
    """Causal modelling of the files of a folder."""
    return sequence_run("bytes", BytesConfig(), depth, data, pattern="**/*.txt")


RECIPE = Recipe("bytes", "any text, one place a byte, no tokenizer: a Llama", build)
