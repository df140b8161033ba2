"""Small tokenizers with the special tokens of published families."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from support.references import (
    saved,
)

WORDS = ["the", "cell", "gene", "protein", "binds", "to", "a", "receptor", "in", "mouse", "liver"]


def template(before: Sequence[str], after: Sequence[str], ids: dict[str, int]) -> Any:
    seen = [(word, ids[word]) for word in dict.fromkeys((*before, *after))]
    return processors.TemplateProcessing([*before, "$A", *after], special_tokens=seen)


def words(marks: Sequence[str], first: int = 0, model: str = "WordLevel") -> Tokenizer:
    """A tokenizer whose special tokens come after `first` others, and its words after them."""
    listed = [*(f"[unused{i}]" for i in range(first)), *marks, *WORDS]
    ids = {word: i for i, word in enumerate(listed)}
    result = Tokenizer(getattr(models, model)(ids, unk_token=marks[0]))
    result.pre_tokenizer = pre_tokenizers.Whitespace()
    if model == "WordPiece":
        result.normalizer = normalizers.BertNormalizer()
        result.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        result.decoder = decoders.WordPiece()
    result.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    return result


BERT = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]"]

ROBERTA = ["<unk>", "<s>", "</s>", "<mask>", "<pad>"]


def around(tokenizer: Tokenizer, before: Sequence[str], after: Sequence[str] = ()) -> Tokenizer:
    tokenizer.post_processor = template(before, after, tokenizer.get_vocab())
    return tokenizer


def folder(build: Callable[..., Any], tokenizer: Tokenizer, at: Path, **more: Any) -> Any:
    reference = saved(lambda: build(vocab_size=tokenizer.get_vocab_size(), **more), at)
    tokenizer.save(str(at / "tokenizer.json"))
    return reference
