"""The text of published weights as its own tokenizer has it: special tokens, template, ends."""

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
    """A config.json in our terms, its text as the `files` of its folder say: the family's numbers
    stay only where there is no tokenizer."""
    found = imported(config, names)
    text = found.config.modalities.get(TEXT)
    if not isinstance(text, TokensConfig):
        return found
    said = special(files)
    told = config.get("text_config", config)
    if said is not None:
        text = _named(text, said, found.pattern == "full", told)
    if found.pattern == "causal":
        ends = [*every(told.get("eos_token_id")), *_generation_ends(files)]
        text = text.model_copy(update={"ends": tuple(dict.fromkeys(ends))})
    model = found.config.model_copy(update={"modalities": {**found.config.modalities, TEXT: text}})
    return replace(found, config=model)


def _named(
    text: TokensConfig, said: Special, whole: bool, config: Mapping[str, Any]
) -> TokensConfig:
    """A text with the ids that its tokenizer names; a `whole` one is read with both its ends. What
    a decoder begins with only the config says."""
    start, end, roles = text.start, text.end, said.roles
    before, after = said.before, said.after
    decoder = config.get("decoder_start_token_id") == start
    if whole and text.before is None and not decoder:  # an encoder with a start
        start = roles.get("cls_token", roles.get("bos_token", start))
        end = roles.get("sep_token", roles.get("eos_token", end))
    elif end is None:
        end = roles.get("eos_token")
    if before is None and said.readable:
        before, after = (text.before, None) if whole else ((), ())
    _must_have_rows((*(before or ()), *(after or ())), text.discrete.vocab_size)
    start = before[0] if before and not decoder else start
    end = after[-1] if after else end
    discrete = text.discrete
    if discrete.mask_id is not None and discrete.token_dropout is None:
        mask = config.get("mask_token_id")
        known = roles.get("mask_token", mask if mask == discrete.mask_id else None)
        known = None if known is not None and known >= discrete.vocab_size else known
        discrete = discrete.model_copy(update={"mask_id": known})
    ids = {"start": start, "end": end, "before": before, "after": after, "discrete": discrete}
    return text.model_copy(update=ids)


def _must_have_rows(around: Sequence[int], rows: int) -> None:
    """DataError where a template puts an id around texts that has no row in the embedding."""
    if any(i >= rows for i in around):
        raise DataError(
            f"tokenizer.json puts the ids {list(around)} around a text, and the embedding has rows"
            f" for the ids 0 to {rows - 1}: the tokenizer does not belong to these weights"
        )


def _generation_ends(files: Mapping[str, bytes]) -> tuple[int, ...]:
    found = tree_of(files, GENERATION).get("eos_token_id")
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise DataError(f"{GENERATION}: eos_token_id={found!r} is no id, nor a list of ids")
    return every(ids)
