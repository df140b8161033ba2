"""Code: source code, byte-level BPE of its own: a Llama."""

from __future__ import annotations

from broadbase.data.sources.texts import TextFilesConfig
from broadbase.modalities.source_code import CodeConfig
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sequence_run
from broadbase.run.config import RunConfig

ENDINGS = "py js ts jsx tsx c h cc cpp hpp cs java kt go rs rb php swift scala sh sql r jl lua m"
PROGRAMS = " ".join(f"**/*.{ending}" for ending in ENDINGS.split())


def build(depth: int, data: str | None) -> RunConfig:
    """Build a causal model of the files of a folder."""
    return sequence_run("code", CodeConfig(), depth, data, plain=programs, normed=True)


def programs(path: str) -> TextFilesConfig:
    """Read the source files of a folder."""
    return TextFilesConfig(path=path, pattern=PROGRAMS)


RECIPE = Recipe("code", "source code, byte-level BPE of its own: a Llama", build)
