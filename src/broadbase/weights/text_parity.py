"""The same texts through transformers' tokenizer and model, and through ours."""

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
    """Ids of texts and, of a base of text alone, what is predicted of them or how they are read."""
    found = [name for name, codec in base.codecs.items() if isinstance(codec, TokensCodec)]
    if not found or not (folder / "tokenizer.json").exists():
        return
    space, theirs = found[0], _tokenizer(folder)
    codec = base.codecs[space]
    named = (folder / "tokenizer_config.json").exists() or codec.tokenizer.post_processor
    both = {text: _ids(base, space, text) for text in TEXTS}
    same = []
    for text, ids in both.items():  # where no file says what comes around a text, without that
        ours = ids if named else torch.from_numpy(codec.encode_prompt(text).values)
        if ours.tolist() == theirs(text, add_special_tokens=bool(named)).input_ids:
            same.append(text)
    wrong = torch.tensor([float(text not in same) for text in TEXTS])
    yield "text", "ids", wrong, torch.zeros(len(TEXTS))
    longest = base.config.max_length(space)
    if len(base.codecs) > 1 or len(base.config.towers) > 1:
        return
    for text in same:
        ids = both[text]
        if 0 < len(ids) <= longest and int(ids.max()) < reference.config.vocab_size:
            yield _predicted(base, reference, text, ids)


def _predicted(base: Base, reference: Any, text: str, ids: Tensor) -> Compared:
    found = reference(ids[None])
    logits = next((found[k] for k in ("prediction_logits", "logits") if k in found), None)
    if logits is not None:
        ours = base.logits(text)
        return f"text of {len(ids)} ids", "logits", ours, logits[0, : len(ours)]
    states = torch.from_numpy(base.embed([text], layers=False)[0])
    return f"text of {len(ids)} ids", "mean states", states, found.last_hidden_state[0].mean(dim=0)


def _ids(base: Base, space: str, text: str) -> Tensor:
    """Of a text that is read whole."""
    codec = base.codecs[space]
    whole = base.attention_pattern(space) == "full" or codec.after is not None
    return document(codec, text, whole, special=True)[0]


def _tokenizer(folder: Path) -> Any:
    """What AutoTokenizer reads; where no file names its class, one that is tokenizer.json alone."""
    hf = require_extra("transformers", "transformers", "--check")
    try:
        if (folder / "tokenizer_config.json").exists():
            return hf.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        return hf.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    except Exception as error:  # whatever a class of theirs raises
        raise ConfigError(f"{folder}: transformers cannot read its tokenizer: {error}") from None
