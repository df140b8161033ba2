"""The text modality of published weights by its tokenizer: special tokens, template, ends."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from broadbase.core.errors import DataError
from broadbase.modalities.special import Special, special, tree_of
from broadbase.modalities.tokens import TokensConfig
from broadbase.weights.hf_fields import every
from broadbase.weights.mapping import ImportedModel, imported

TEXT = "text"
GENERATION = "generation_config.json"


def spoken(
    config: Mapping[str, Any], names: Collection[str], files: Mapping[str, bytes]
) -> ImportedModel:
    """Read a config.json and the tokenizer's `files` of its folder.

    The special tokens are those of the tokenizer; without one, the family's defaults.
    """
    model = imported(config, names)
    text = model.config.modalities.get(TEXT)
    if not isinstance(text, TokensConfig):
        return model
    tokenizer = special(files)
    text_config = config.get("text_config", config)
    if tokenizer is not None:
        text = _with_special(text, tokenizer, model.pattern == "full", text_config)
    if model.pattern == "causal":
        ends = [*every(text_config.get("eos_token_id")), *_generation_ends(files)]
        text = text.replace(ends=tuple(dict.fromkeys(ends)))
    modalities = {**model.config.modalities, TEXT: text}
    return replace(model, config=model.config.replace(modalities=modalities))


def _with_special(
    text: TokensConfig, tokenizer: Special, encoder: bool, config: Mapping[str, Any]
) -> TokensConfig:
    """Return a text modality with the special ids of its tokenizer.

    An `encoder` reads a text with start and end. The start of a decoder is in the config alone.
    """
    start, end, roles = text.start, text.end, tokenizer.roles
    before, after = tokenizer.before, tokenizer.after
    decoder = config.get("decoder_start_token_id") == start
    if encoder and text.before is None and not decoder:  # an encoder with a start
        start = roles.get("cls_token", roles.get("bos_token", start))
        end = roles.get("sep_token", roles.get("eos_token", end))
    elif end is None:
        end = roles.get("eos_token")
    if before is None and tokenizer.readable:
        before, after = (text.before, None) if encoder else ((), ())
    _must_have_rows((*(before or ()), *(after or ())), text.discrete.vocab_size)
    start = before[0] if before and not decoder else start
    end = after[-1] if after else end
    discrete = text.discrete
    if discrete.mask_id is not None and discrete.token_dropout is None:
        mask = config.get("mask_token_id")
        mask = roles.get("mask_token", mask if mask == discrete.mask_id else None)
        mask = None if mask is not None and mask >= discrete.vocab_size else mask
        discrete = discrete.replace(mask_id=mask)
    ids = {"start": start, "end": end, "before": before, "after": after, "discrete": discrete}
    return text.replace(**ids)


def _must_have_rows(around: Sequence[int], rows: int) -> None:
    """Check that the embedding has a row for each id that a template adds; DataError if not."""
    if any(i >= rows for i in around):
        raise DataError(
            f"tokenizer.json puts the ids {list(around)} around a text, and the embedding has rows"
            f" for the ids 0 to {rows - 1}: the tokenizer does not belong to these weights;"
            " copy both from one folder"
        )


def _generation_ends(files: Mapping[str, bytes]) -> tuple[int, ...]:
    value = tree_of(files, GENERATION).get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise DataError(f"{GENERATION}: eos_token_id={value!r} is no id, nor a list of ids")
    return every(ids)
