"""Speech, mispaired: what `speech` must beat for its sounds to have been heard at all."""

from __future__ import annotations

from broadbase.data.sources.shuffled import ShuffledConfig
from broadbase.recipes import speech
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build the same run with every text under another sound's key."""
    config = speech.build(depth, data)
    words = config.data.sources["words"]
    words = words.replace(source=ShuffledConfig(source=words.source))
    sources = {**config.data.sources, "words": words}
    mixed = config.data.replace(sources=sources)
    return config.replace(recipe="speech_control", data=mixed)


RECIPE = Recipe("speech_control", "speech with every text under another sound: a control", build)
