"""Byte-level byte-pair encoding, trained on the corpus: what text and code share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from broadbase.core.contracts import Codec, Corruption, ModalityConfig, Sample
from broadbase.core.errors import DataError
from broadbase.modalities.noise import MaskOrSwap
from broadbase.nn.spaces import Discrete, DiscreteConfig

START, END = "<|start|>", "<|end|>"
WORD = re.compile(r"\w+")


class BytePairConfig(ModalityConfig):
    """A modality of strings; a subclass names itself and says in `words` what no merge crosses."""

    words: ClassVar[str]
    vocabulary: Annotated[int, Field(ge=258)] = 4096

    def clean(self, raw: Any) -> str:
        """Line ends as \n, and Unicode composed (NFC)."""
        if not isinstance(raw, str):
            raise ValueError(f"expected text, got {type(raw).__name__}")
        return unicodedata.normalize("NFC", raw.replace("\r\n", "\n").replace("\r", "\n"))

    def pieces(self, raw: Any) -> list[str]:
        """Runs of three words."""
        words = WORD.findall(raw.lower())
        return [" ".join(run) for run in zip(words, words[1:], words[2:], strict=False)]

    def fit(self, records: Iterable[Any]) -> Codec:
        return BytePairCodec.fit(records, self.vocabulary, self.words)

    def load(self, folder: Path) -> Codec:
        return BytePairCodec.load(folder)

    @property
    def discrete(self) -> DiscreteConfig:
        """The settings of the Space."""
        return DiscreteConfig(vocabulary=self.vocabulary)

    def space(self, width: int) -> Discrete:
        return self.discrete.build(width)

    def corruption(self) -> Corruption:
        return MaskOrSwap(self.vocabulary)


class BytePairCodec:
    """Any Unicode text to ids and back, exactly (Sennrich et al. 2016, on bytes as in GPT-2)."""

    unit = "byte"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.start: NDArray[Any] = np.array(tokenizer.token_to_id(START))
        self.end: NDArray[Any] | None = np.array(tokenizer.token_to_id(END))

    @classmethod
    def fit(cls, texts: Iterable[str], vocabulary: int, words: str) -> BytePairCodec:
        """Learn merges up to `vocabulary` ids; none crosses a boundary of the regex `words`."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(words), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[START, END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, folder: Path) -> BytePairCodec:
        """The codec whose tokenizer.json lies in `folder`."""
        path = folder / "tokenizer.json"
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises bare Exception
            raise DataError(f"{path} is not a tokenizer that can be read: {error}") from None

    def encode(self, raw: Any) -> Sample:
        if not isinstance(raw, str):
            raise ValueError(f"expected text, got {type(raw).__name__}")
        ids = np.array(self.tokenizer.encode(raw, add_special_tokens=False).ids, dtype=np.int64)
        return Sample(ids, (len(ids),), len(raw.encode()))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> str:
        return self.tokenizer.decode([int(i) for i in values])

    def save(self, folder: Path) -> None:
        self.tokenizer.save(str(folder / "tokenizer.json"))
