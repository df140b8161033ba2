"""Code: source code, byte-level BPE of its own: a Llama."""

from __future__ import annotations

from pathlib import Path

from broadbase.modalities.code import CodeConfig
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sequence_run
from broadbase.run import RunConfig


def build(depth: int, data: Path | None) -> RunConfig:
    """Causal modelling of the files of a folder."""
    return sequence_run("code", CodeConfig(), depth, data, pattern="**/*.py")


RECIPE = Recipe("code", "source code, byte-level BPE of its own: a Llama", build)
