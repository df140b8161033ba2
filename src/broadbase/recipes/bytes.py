"""Bytes: any text, one token per byte, no tokenizer: a Llama."""

from __future__ import annotations

from broadbase.modalities.bytes import BytesConfig
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sequence_run
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build a causal model of the files of a folder."""
    return sequence_run("bytes", BytesConfig(), depth, data)


RECIPE = Recipe("bytes", "any text, one token per byte, no tokenizer: a Llama", build)
