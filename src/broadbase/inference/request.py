"""A request for generation: what the command, Python and other callers give a base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from broadbase.core.config import Config
from broadbase.core.errors import ConfigError
from broadbase.core.usage import Usage
from broadbase.inference.autoregressive import SamplingConfig


class Prompt(Config):
    """What one output is generated from."""

    value: Any = None
    """A raw record, such as a text. A base with conditioning reads it as what is given, unless
    there is an attachment; other bases continue it. Null: nothing is given."""
    attachments: tuple[Any, ...] = ()
    """Raw records of other modalities. A base with conditioning takes one as what is given, and
    the value as the beginning of its output; in other bases the value says where each stands."""


class GenerateRequest(Config):
    """A request for generation."""

    prompts: tuple[Prompt, ...]
    """The prompts, one for each output."""
    modality: str | None = None
    """The modality to be generated; null: that of the conditioning, or the first of the base."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 64
    """The most tokens that are generated for a prompt."""
    grid: tuple[int, ...] | None = None
    """The grid of the output, such as rows and columns of an image, which then has no beginning;
    null: the grid that all training records had, if they had the same one."""
    stop: tuple[str, ...] = ()
    """Texts at which an output ends; they are left out."""
    sampling: SamplingConfig = SamplingConfig()
    """How values are sampled, with the seed of all chance."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """How many prompts are read side by side."""


def combine(values: Sequence[Any], attachments: Sequence[Any], usage: Usage) -> tuple[Prompt, ...]:
    """Return the prompts of some values and attachments; no value is one prompt of None.

    A base with conditioning generates from each attachment, or from one after each value
    (ConfigError of several with values). Other bases read all attachments in every value.
    """
    every = list(values) or [None]
    if usage.conditioning is None or not attachments:
        return tuple(Prompt(value=value, attachments=tuple(attachments)) for value in every)
    if values and len(attachments) > 1:
        raise ConfigError("with several images or sounds leave out --prompt, or give one at a time")
    return tuple(Prompt(value=value, attachments=(one,)) for one in attachments for value in every)
