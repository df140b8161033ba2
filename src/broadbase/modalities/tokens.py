"""Tokens: ids of a published vocabulary, made by its tokenizer or by one trained here."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from tokenizers import Tokenizer

from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.core.errors import ConfigError, DataError
from broadbase.modalities.chat_template import ChatTemplate
from broadbase.modalities.noise import MaskOrSwap
from broadbase.modalities.special import FILES, panics_as_errors, roles, tokenizer_of
from broadbase.nn.spaces.discrete import Discrete, DiscreteConfig

BARE = {"special": False, "normalized": False, "lstrip": False, "rstrip": False}


class TokensConfig(ModalityConfig):
    """A published vocabulary, with its tokenizer or with the codec of another modality."""

    divisible: ClassVar[bool] = True
    name: Literal["tokens"] = "tokens"
    discrete: DiscreteConfig
    """The settings of the embedder and head."""
    start: int = 0
    """The id before a document in training."""
    end: int | None = None
    """The id after a document in training; null: none."""
    placeholder_ids: dict[str, int] = Field(default_factory=dict)
    """The id that stands for an attached record, by its modality (LLaVA's <image>)."""
    before: tuple[int, ...] | None = None
    """The ids before a text that is read; null: the start."""
    after: tuple[int, ...] | None = None
    """The ids after a text that is read; null: the end, if attention is full."""
    ends: tuple[int, ...] = ()
    """The ids that end a generated text; empty: the end."""
    by: ModalityConfig | None = None
    """The modality whose codec makes the ids; null: the tokenizer.json of the model folder."""

    @model_validator(mode="before")
    @classmethod
    def _begins(cls, tree: Any) -> Any:
        """Read the field of earlier versions that says whether a text begins with the start."""
        if isinstance(tree, dict) and "begins" in tree:
            begins = tree["begins"]
            tree = {k: v for k, v in tree.items() if k != "begins"}
            return tree if begins else {"before": (), **tree}
        return tree

    @property
    def id_settings(self) -> DiscreteConfig:
        """The settings of the embedder and head."""
        return self.discrete

    @property
    def codec_modality(self) -> ModalityConfig:
        """The modality `by` which the codec is made, if there is one."""
        return self if self.by is None else self.by

    def clean(self, raw: Any) -> Any:
        """Return the record as it is, or as the other modality cleans it."""
        return raw if self.by is None else self.by.clean(raw)

    def clean_prefix(self, raw: Any) -> Any:
        """Return the prefix as it is, or as the other modality cleans it."""
        return raw if self.by is None else self.by.clean_prefix(raw)

    def conversions(self, raw: Any) -> tuple[str, ...]:
        """Return the changes of the other modality, if there is one."""
        return () if self.by is None else self.by.conversions(raw)

    def shingles(self, raw: Any) -> Sequence[str]:
        """Return the shingles of the other modality, if there is one."""
        return () if self.by is None else self.by.shingles(raw)

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return the codec of the other modality; ConfigError if there is none."""
        if self.by is not None:
            return self.by.fit(records)
        raise ConfigError(
            "modality 'tokens' has the tokenizer of published weights: go on from their folder,"
            " --init-from FOLDER; or train with 'text', which makes a tokenizer"
        )

    def load(self, folder: Path) -> Codec:
        """Return the codec of `folder`; without a tokenizer.json it reads sequences of ids only."""
        if self.by is not None:
            return self.by.load(folder)
        path = folder / "tokenizer.json"
        if not path.exists():
            return TokensCodec(self, None)
        tokenizer = tokenizer_of(path.read_bytes(), str(path))
        files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}
        added = {t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special}
        named = [word for word in roles(files).values() if word not in added]
        tokenizer.add_special_tokens([w for w in named if tokenizer.token_to_id(w) is not None])
        codec = TokensCodec(self, tokenizer)
        codec.chat = ChatTemplate.of_folder(folder)
        return codec

    def space(self, width: int) -> Discrete:
        """Return the embedder and head of the ids."""
        return self.discrete.build(width)

    def corruption(self) -> Corruption:
        """Return a corruption of ids, or that of the other modality."""
        return MaskOrSwap(self.discrete.vocab_size) if self.by is None else self.by.corruption()

    def corruption_of(self, codec: Codec) -> Corruption:
        """Return a corruption of ids, or that of the other modality with its codec's units."""
        return self.corruption() if self.by is None else self.by.corruption_of(codec)


class TokensCodec(Codec):
    """Encodes text with the folder's tokenizer.json, and sequences of ids as they are.

    A record is data: `</s>` in it is four characters. In a prompt it is the special token.
    """

    unit = "byte"

    def __init__(self, config: TokensConfig, tokenizer: Tokenizer | None) -> None:
        self.tokenizer: Tokenizer | None = tokenizer
        self.placeholder_ids = config.placeholder_ids
        self.start: NDArray[Any] = np.array(config.start)
        self.end: NDArray[Any] | None = None if config.end is None else np.array(config.end)
        self.before, self.after = (
            None if ids is None else np.array(ids, dtype=np.int64)
            for ids in (config.before, config.after)
        )
        self.ends = config.ends
        self._ids = config.discrete.vocab_size + config.discrete.extra_ids

    def encode(self, raw: Any) -> Sample:
        """Encode a text, in which special tokens are plain text, or a sequence of ids: [N]."""
        return self._encoded(raw, prompt=False)

    def encode_prompt(self, raw: Any) -> Sample:
        """Encode a text, in which special tokens may be written, or a sequence of ids: [N]."""
        return self._encoded(raw, prompt=True)

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> str | Sequence[int]:
        """Return the text of ids [N] without special tokens; the ids if there is no tokenizer."""
        return self._text(values)

    def continuation(
        self, before: NDArray[Any], values: NDArray[Any], special: bool = False
    ) -> str | Sequence[int]:
        """Return what `values` add to the text of the ids before them.

        Decoded alone they may lack their first blank. `special` keeps special tokens.
        """
        both = np.concatenate([before, values])
        if special:
            return self._text(both, special)[len(self._text(before, special)) :]
        return self.decode(both, ())[len(self.decode(before, ())) :]

    def is_special(self, identity: int) -> bool:
        """Return whether an id is a special token."""
        return identity in self._special

    def id_to_token(self, identity: int) -> str:
        """Return the token of an id as the vocabulary writes it; "id 7" if it has none."""
        inside = self.tokenizer is not None and 0 <= identity < 2**32
        token = self.tokenizer.id_to_token(identity) if self.tokenizer and inside else None
        return token or f"id {identity}"

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, if there is one."""
        if self.tokenizer is not None:
            self.tokenizer.save(str(folder / "tokenizer.json"))

    def _encoded(self, raw: Any, prompt: bool) -> Sample:
        if not isinstance(raw, str):
            ids = self._checked(_given(raw))
            return Sample(ids, (len(ids),), len(ids))
        size = len(_utf8(raw))
        tokenizer = self._present() if prompt else self._plain
        with panics_as_errors():
            encoded = tokenizer.encode(raw, add_special_tokens=False).ids
        ids = self._checked(np.array(encoded, dtype=np.int64))
        return Sample(ids, (len(ids),), size)

    def _checked(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the same ids; ValueError if one has no row in the table of embeddings."""
        beyond = ids[(ids < 0) | (ids >= self._ids)]
        if len(beyond):
            raise ValueError(
                f"{self.id_to_token(int(beyond[0]))!r} has the id {beyond[0]}, and the embedding"
                f" has rows for the ids 0 to {self._ids - 1}: the tokenizer does not belong to"
                " these weights"
            )
        return ids

    def _text(self, values: NDArray[Any], special: bool = False) -> str | Sequence[int]:
        if self.tokenizer is None:
            return [int(v) for v in values]
        with panics_as_errors():
            ids = [int(v) for v in values]
            text: str = self.tokenizer.decode(ids, skip_special_tokens=not special)
        return text

    @cached_property
    def _special(self) -> set[int]:
        added = {} if self.tokenizer is None else self.tokenizer.get_added_tokens_decoder()
        return {i for i, token in added.items() if token.special}

    @cached_property
    def _plain(self) -> Tokenizer:
        """The tokenizer with special tokens spelled as no text is, so that no text contains one.

        They keep their ids; without them the library would number the others anew.
        """
        tree = json.loads(self._present().to_str())
        model, added = tree["model"], tree["added_tokens"]
        special = {t["content"] for t in added if t["special"]}
        if isinstance(model["vocab"], dict) and (unknown := model.get("unk_token")) in special:
            special -= {unknown} & model["vocab"].keys()  # the model looks it up
            added = [t for t in added if t["content"] != unknown or unknown in special]
        tree["added_tokens"] = [
            {**t, **BARE, "content": _spelled(t["content"], special)} if t["special"] else t
            for t in added
        ]
        tree["post_processor"] = None
        if isinstance(model["vocab"], dict):
            model["vocab"] = {_spelled(k, special): v for k, v in model["vocab"].items()}
        else:
            model["vocab"] = [[_spelled(word, special), p] for word, p in model["vocab"]]
        if special and model.get("merges"):
            pairs = [m.split(" ", 1) if isinstance(m, str) else m for m in model["merges"]]
            model["merges"] = [pair for pair in pairs if not special & {*pair, "".join(pair)}]
        return tokenizer_of(json.dumps(tree).encode(), "tokenizer.json without special tokens")

    def _present(self) -> Tokenizer:
        """Return the tokenizer; DataError if there is none."""
        if self.tokenizer is None:
            raise DataError(
                "text cannot be read: the model folder has no tokenizer.json. Add the file"
                " (AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers"
                " makes it of vocab.txt or a sentencepiece model), or give ids"
            )
        return self.tokenizer


def _spelled(word: str, special: Collection[str]) -> str:
    """Return a word as it is, or, if it is special, as no text is spelled."""
    return f"\U0010ffff{word}\U0010ffff" if word in special else word


def _given(raw: Any) -> NDArray[np.int64]:
    """Return a sequence of ids as an array; ValueError if it is none."""
    try:
        ids = np.asarray(raw)
    except ValueError:
        ids = np.array(None)
    if isinstance(raw, bytes) or ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ValueError(f"expected text, or a sequence of ids, got {type(raw).__name__}")
    return ids.astype(np.int64)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start + 1} is half of a pair ({text[error.start]!r}), which is no"
            " Unicode text; mend or remove it"
        ) from None
