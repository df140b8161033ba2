"""Tokens: ids in the Space of published weights, made by their tokenizer or by one trained here."""

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
from broadbase.modalities.noise import MaskOrSwap
from broadbase.modalities.special import FILES, panics_as_errors, roles, tokenizer_of
from broadbase.nn.spaces.discrete import Discrete, DiscreteConfig

BARE = {"special": False, "normalized": False, "lstrip": False, "rstrip": False}


class TokensConfig(ModalityConfig):
    """A vocabulary made by others; in training, `start` and `end` are a document's two ends.

    With `by`, records are those of that modality, ids made as there; only the Space is another.
    """

    divisible: ClassVar[bool] = True
    name: Literal["tokens"] = "tokens"
    discrete: DiscreteConfig
    start: int = 0
    end: int | None = None
    placeholder_ids: dict[str, int] = Field(
        default_factory=dict
    )  # modality -> the id in whose place a record of it is read (LLaVA's <image>)
    before: tuple[int, ...] | None = None  # put before a text that is read; None: the start
    after: tuple[int, ...] | None = None  # put after it; None: the end, where places see both ways
    ends: tuple[int, ...] = ()  # any of them ends what is generated; none: the end
    by: ModalityConfig | None = None  # None: a tokenizer.json

    @model_validator(mode="before")
    @classmethod
    def _begins(cls, tree: Any) -> Any:
        """Folders of earlier versions say whether a text has the start before it."""
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
        return raw if self.by is None else self.by.clean(raw)

    def clean_prefix(self, raw: Any) -> Any:
        return raw if self.by is None else self.by.clean_prefix(raw)

    def conversions(self, raw: Any) -> tuple[str, ...]:
        return () if self.by is None else self.by.conversions(raw)

    def shingles(self, raw: Any) -> Sequence[str]:
        return () if self.by is None else self.by.shingles(raw)

    def fit(self, records: Iterable[Any]) -> Codec:
        if self.by is not None:
            return self.by.fit(records)
        raise ConfigError(
            "modality 'tokens' is told in the tokenizer of published weights: go on from their"
            " folder, --init-from FOLDER; or train with 'text', which makes one"
        )

    def load(self, folder: Path) -> Codec:
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
        return TokensCodec(self, tokenizer)

    def space(self, width: int) -> Discrete:
        return self.discrete.build(width)

    def corruption(self) -> Corruption:
        return MaskOrSwap(self.discrete.vocab_size) if self.by is None else self.by.corruption()

    def corruption_of(self, codec: Codec) -> Corruption:
        return self.corruption() if self.by is None else self.by.corruption_of(codec)


class TokensCodec(Codec):
    """Text by the folder's tokenizer.json, or sequences of ids as they are.

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
        return self._encoded(raw, prompt=False)

    def encode_prompt(self, raw: Any) -> Sample:
        """As a record, but that special tokens may be written in it."""
        return self._encoded(raw, prompt=True)

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> str | Sequence[int]:
        return self._text(values)

    def continuation(
        self, before: NDArray[Any], values: NDArray[Any], special: bool = False
    ) -> str | Sequence[int]:
        """What `values` add to the text of the ids before them: `special` tokens left out or not.

        By themselves they may lack their first blank.
        """
        both = np.concatenate([before, values])
        if special:
            return self._text(both, special)[len(self._text(before, special)) :]
        return self.decode(both, ())[len(self.decode(before, ())) :]

    def is_special(self, identity: int) -> bool:
        """Whether an id is of no text."""
        return identity in self._special

    def id_to_token(self, identity: int) -> str:
        """How an id is written in a text."""
        inside = self.tokenizer is not None and 0 <= identity < 2**32
        known = self.tokenizer.id_to_token(identity) if self.tokenizer and inside else None
        return known or f"id {identity}"

    def save(self, folder: Path) -> None:
        if self.tokenizer is not None:
            self.tokenizer.save(str(folder / "tokenizer.json"))

    def _encoded(self, raw: Any, prompt: bool) -> Sample:
        if not isinstance(raw, str):
            ids = self._known_ids(_given(raw))
            return Sample(ids, (len(ids),), len(ids))
        size = len(_utf8(raw))
        tokenizer = self._known() if prompt else self._plain
        with panics_as_errors():
            found = tokenizer.encode(raw, add_special_tokens=False).ids
        ids = self._known_ids(np.array(found, dtype=np.int64))
        return Sample(ids, (len(ids),), size)

    def _known_ids(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same; ValueError where one has no row in the table of embeddings."""
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
        """The tokenizer whose special tokens are spelled as no text is: none can come of a text.

        They keep their ids; without them the library would count others anew.
        """
        tree = json.loads(self._known().to_str())
        model, added = tree["model"], tree["added_tokens"]
        special = {t["content"] for t in added if t["special"]}
        if isinstance(model["vocab"], dict) and (unknown := model.get("unk_token")) in special:
            special -= {unknown} & model["vocab"].keys()  # which the model looks up
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

    def _known(self) -> Tokenizer:
        if self.tokenizer is None:
            raise DataError(
                "text cannot be read: the model folder has no tokenizer.json. Add the file"
                " (AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers"
                " makes it of vocab.txt or a sentencepiece model), or give ids"
            )
        return self.tokenizer


def _spelled(word: str, special: Collection[str]) -> str:
    """As it is, or where it is `special` as no text is spelled."""
    return f"\U0010ffff{word}\U0010ffff" if word in special else word


def _given(raw: Any) -> NDArray[np.int64]:
    """Ids as they are given; ValueError where they are none."""
    try:
        found = np.asarray(raw)
    except ValueError:
        found = np.array(None)
    if isinstance(raw, bytes) or found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(f"expected text, or a sequence of ids, got {type(raw).__name__}")
    return found.astype(np.int64)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start + 1} is half of a pair ({text[error.start]!r}), which is no"
            " Unicode text; mend or remove it"
        ) from None
