"""Texts through the tokenizer and model of transformers, and through those of a base."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from broadbase.core.errors import ConfigError
from broadbase.core.extras import require_extra
from broadbase.inference.base import Base
from broadbase.inference.documents import document
from broadbase.modalities.tokens import TokensCodec

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "  leading blanks,\ttabs\nand lines  ",
    "naïve café, 北京, 1234567 🙂",
    "def f(x):\n    return [x, 2 * x]",
    "the cell gene protein",
)
Compared = tuple[str, str, Tensor, Tensor]


def compared(base: Base, reference: Any, folder: Path) -> Iterator[Compared]:
    """Yield the ids of texts and, for a base of text alone, its logits or states.

    Each comparison is the name of the inputs, that of the outputs, and both tensors.
    """
    spaces = [name for name, codec in base.codecs.items() if isinstance(codec, TokensCodec)]
    if not spaces or not (folder / "tokenizer.json").exists():
        return
    space, reference_tokenizer = spaces[0], _tokenizer(folder)
    codec = base.codecs[space]
    special = (folder / "tokenizer_config.json").exists() or codec.tokenizer.post_processor
    ids_by_text = {text: _ids(base, space, text) for text in TEXTS}
    same = []
    for text, ids in ids_by_text.items():  # without a template, compare the ids of the text alone
        encoded = ids if special else torch.from_numpy(codec.encode_prompt(text).values)
        expected = reference_tokenizer(text, add_special_tokens=bool(special)).input_ids
        if encoded.tolist() == expected:
            same.append(text)
    wrong = torch.tensor([float(text not in same) for text in TEXTS])
    yield "text", "ids", wrong, torch.zeros(len(TEXTS))
    longest = base.config.max_length(space)
    if len(base.codecs) > 1 or len(base.config.towers) > 1:
        return
    for text in same:
        ids = ids_by_text[text]
        if 0 < len(ids) <= longest and int(ids.max()) < reference.config.vocab_size:
            yield _predicted(base, reference, text, ids)


def _predicted(base: Base, reference: Any, text: str, ids: Tensor) -> Compared:
    output = reference(ids[None])
    logits = next((output[k] for k in ("prediction_logits", "logits") if k in output), None)
    if logits is not None:
        actual = base.logits(text)
        return f"text of {len(ids)} ids", "logits", actual, logits[0, : len(actual)]
    states = torch.from_numpy(base.embed([text], layers=False)[0])
    return f"text of {len(ids)} ids", "mean states", states, output.last_hidden_state[0].mean(dim=0)


def _ids(base: Base, space: str, text: str) -> Tensor:
    """Return the ids of a text as the base reads it."""
    codec = base.codecs[space]
    ended = base.attention_pattern(space) == "full" or codec.after is not None
    return document(codec, text, ended, special=True)[0]


def _tokenizer(folder: Path) -> Any:
    """Return the tokenizer of AutoTokenizer; if no file names its class, that of tokenizer.json."""
    hf = require_extra("transformers", "transformers", "--check")
    try:
        if (folder / "tokenizer_config.json").exists():
            return hf.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        return hf.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    except Exception as error:  # whatever a class of transformers raises
        raise ConfigError(
            f"{folder}: transformers cannot read its tokenizer ({error}); copy the folder again"
        ) from None
