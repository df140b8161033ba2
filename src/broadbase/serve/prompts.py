"""Prompts as ids: of texts, of ids, of two parts between which something is to be filled in."""

from __future__ import annotations

from collections.abc import Sequence

from broadbase.core.codec import Codec
from broadbase.core.errors import ConfigError, DataError
from broadbase.inference.base import Base
from broadbase.inference.documents import document, opening, unreadable
from broadbase.weights.sizes import ids

FIM_TOKENS = (  # prefix, suffix, middle, as published tokenizers write them
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
)


def writes_text(base: Base, modality: str | None = None) -> bool:
    """Return whether the tokens of a modality are texts, as those of pictures are not."""
    space, codec = base.codec(modality)
    discrete = base.config.modalities[space].id_settings
    return discrete is not None and isinstance(codec.decode(codec.start[None][:0], (0,)), str)


def check_generates(base: Base, name: str) -> None:
    """Check that a base writes texts; ConfigError otherwise."""
    if base.usage.generator is None:
        raise ConfigError(
            f"model: {name!r} was pretrained with attention {base.usage.attention!r} and cannot"
            " generate; /v1/embeddings answers for it"
        )
    target = base.usage.conditioning.target if base.usage.conditioning else None
    if not writes_text(base, target):
        raise ConfigError(
            f"model: {name!r} generates {base.codec(target)[0]!r}, which is no text;"
            " /v1/images/generations answers for bases that draw"
        )


def prompt_ids(base: Base, prompt: str | Sequence[int]) -> tuple[int, ...]:
    """Return the ids of a prompt: of a text with its start, as `generate` reads it.

    Ids stay as they are, without a start of ours. DataError if they are no prompt.
    """
    space, codec = base.codec()
    if isinstance(prompt, str):
        with unreadable(0, space, ()):
            clean = base.config.modalities[space].clean_prefix(prompt)
            return tuple(document(codec, clean, False, special=True)[0].tolist())
    if not prompt:
        raise DataError("prompt: a list of ids must have one at least")
    check_ids(base, space, prompt, "prompt")
    return tuple(prompt)


def encoded(base: Base, text: str) -> tuple[int, ...]:
    """Return the ids of a text that has all special tokens already, its start too."""
    space, codec = base.codec()
    with unreadable(0, space, ()):
        return tuple(codec.encode_prompt(text).values.tolist())


def check_ids(base: Base, space: str, given: Sequence[int], at: str) -> None:
    """Check that these are ids of a modality; DataError, which names where they stand, if not."""
    discrete = ids(base.config.modalities[space])
    count = 0 if discrete is None else discrete.vocab_size
    wrong = [identity for identity in given if not 0 <= identity < count]
    if wrong:
        raise DataError(f"{at}: {wrong[0]} is no id of this base, which has 0 to {count - 1}")


def filling_ids(base: Base, prefix: str | Sequence[int], suffix: str) -> tuple[int, ...]:
    """Return the ids after which a base writes what is between two parts.

    The prefix, the suffix, then the middle, each after its mark (Bavarian et al. 2022).
    ConfigError if the base did not learn it.
    """
    space, codec = base.codec()
    first, second, third = _marks(base, space, codec)
    kind, start = base.config.modalities[space], opening(codec).tolist()
    with unreadable(0, space, ()):
        before, after = (
            codec.encode(kind.clean_prefix(part)).values.tolist() if isinstance(part, str) else part
            for part in (prefix, suffix)
        )
    return (*start, first, *before, second, *after, third)


def _marks(base: Base, space: str, codec: Codec) -> tuple[int, int, int]:
    if space in base.usage.infilling:
        return base.usage.infilling[space]
    for names in FIM_TOKENS if codec.tokenizer is not None else ():
        first, second, third = map(codec.tokenizer.token_to_id, names)
        if first is not None and second is not None and third is not None:
            return first, second, third
    raise ConfigError(
        "suffix: this base did not learn to fill in the middle (objective fim); leave it out"
    )


def context_of(base: Base, most: int) -> int:
    """Return how many tokens a prompt and its answer may have: `most`, or what the base can read.

    A base with rotary positions can read any number; a published one says what it was trained on.
    """
    published = {} if base.origin is None else base.origin.config
    trained = published.get("text_config", published).get("max_position_embeddings")
    limits = [most, base.config.max_length(base.codec()[0])]
    return int(min(limits + ([trained] if isinstance(trained, int) else [])))


def check_fits(prompt: Sequence[int], new: int, context: int) -> None:
    """Check that a prompt and what is drawn fit into the context; ConfigError has the numbers."""
    if len(prompt) + new > context:
        raise ConfigError(
            f"this model has a context of {context} tokens here: the prompt has {len(prompt)}, and"
            f" max_tokens asks for {new} more; shorten the prompt, or ask for at most"
            f" {max(0, context - len(prompt))}"
        )
