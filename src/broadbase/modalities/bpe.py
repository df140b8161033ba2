"""Byte-level byte-pair encoding, trained on the corpus: the base of text and code."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import tiktoken
from numpy.typing import NDArray
from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import Boundaries, Corruption
from broadbase.core.errors import DataError
from broadbase.modalities.ids import IdsConfig
from broadbase.modalities.noise import MaskOrSwap
from broadbase.modalities.special import panics_as_errors, tokenizer_of
from broadbase.modalities.strings import chunks, refuse_surrogates
from broadbase.modalities.units import units

START, END = "<|start|>", "<|end|>"
WORD = re.compile(r"\w+")
LONGEST = 1024  # characters of a word that merges are learned from: time grows with its square
LONG = re.compile(r"[^\W\d_]{64,}|(?:[^\w\s]|_){64,}|\s{64,}")
PLAIN = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
ODD = sorted(set(range(256)) - PLAIN)


class BytePairConfig(IdsConfig):
    """A modality of strings; a subclass has a `name`, and in `words` the regex of its words."""

    divisible: ClassVar[bool] = True
    words: ClassVar[str]
    vocab_size: Annotated[int, Field(ge=258)] = 4096
    """The ids of the tokenizer, start and end included."""

    def clean(self, raw: Any) -> str:
        """Return a text with line feeds as line ends and composed characters (NFC).

        ValueError if it holds half of a surrogate pair.
        """
        if not isinstance(raw, str):
            raise ValueError(f"expected text, got {type(raw).__name__}")
        refuse_surrogates(raw)
        return unicodedata.normalize("NFC", raw.replace("\r\n", "\n").replace("\r", "\n"))

    def chunks(self, raw: Any) -> Iterable[Any]:
        """Cut a text into chunks, before a blank if possible."""
        return chunks(raw)

    def shingles(self, raw: Any) -> list[str]:
        """Return the runs of three words."""
        words = WORD.findall(raw.lower())
        return [" ".join(run) for run in zip(words, words[1:], words[2:], strict=False)]

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return a tokenizer that is trained on the records."""
        return BytePairCodec.fit(records, self.vocab_size, self.words)

    def load(self, folder: Path) -> Codec:
        """Return the tokenizer in `folder`."""
        return BytePairCodec.load(folder)

    @property
    def ids(self) -> int:
        """The size of the vocabulary."""
        return self.vocab_size

    def corruption_of(self, codec: Codec) -> Corruption:
        """Return a corruption of ids that has the words and sentences of the tokenizer."""
        assert isinstance(codec, BytePairCodec)
        return MaskOrSwap(self.ids, extra_ids=self.extra_ids, units=codec.units)


class BytePairCodec(Codec):
    """A tokenizer of any Unicode text, without loss (Sennrich et al. 2016, on bytes as in GPT-2).

    Other libraries read its tokenizer.json. Here tiktoken encodes, which is faster and gives the
    same ids: of adjacent tokens that make a token together, those of the lowest rank merge first.
    """

    unit = "byte"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        if {START, END} - tokenizer.get_vocab().keys():
            raise ValueError(f"it has no token {START} or {END}")
        self.start: NDArray[Any] = np.array(tokenizer.token_to_id(START))
        self.end: NDArray[Any] | None = np.array(tokenizer.token_to_id(END))
        ids = {_bytes(t): i for t, i in tokenizer.get_vocab().items() if t not in (START, END)}
        order = sorted(ids, key=lambda token: ids[token])
        words = json.loads(tokenizer.to_str())["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        self._ids = np.array([ids[token] for token in order])  # id of a rank
        self._tokens = {i: token for token, i in ids.items()}
        self._fast = tiktoken.Encoding(
            "corpus",
            pat_str=words["Regex"],
            mergeable_ranks={token: rank for rank, token in enumerate(order)},
            special_tokens={},
        )

    @classmethod
    def fit(cls, texts: Iterable[str], vocabulary: int, words: str) -> BytePairCodec:
        """Learn merges up to `vocabulary` ids; none crosses a boundary of the regex `words`."""
        learned = _tokenizer(models.BPE(), words)
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[START, END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        learned.train_from_iterator(_capped(texts), trainer)
        vocab = learned.get_vocab()
        merges = [
            (token[:cut], token[cut:])
            for token in sorted(vocab, key=lambda token: vocab[token])
            if token not in (START, END)
            for cut in range(1, len(token))
            if token[:cut] in vocab and token[cut:] in vocab
        ]  # all ways to make a token, not only the learned one: a token then has one spelling
        tokenizer = _tokenizer(models.BPE(vocab, merges), words)
        tokenizer.add_special_tokens([START, END])
        return cls(tokenizer)

    @classmethod
    def load(cls, folder: Path) -> BytePairCodec:
        """Return the codec of the tokenizer.json in `folder`; DataError if it has none of ours."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise DataError(f"{path} is missing; copy the folder again")
        tokenizer = tokenizer_of(path.read_bytes(), str(path))
        try:
            with panics_as_errors():
                return cls(tokenizer)
        except ValueError as error:
            raise DataError(
                f"{path} is not a tokenizer that was made here ({error}); copy the file again"
            ) from None

    def encode(self, raw: Any) -> Sample:
        """Encode a text as ids [N]."""
        if not isinstance(raw, str):
            raise ValueError(f"expected text, got {type(raw).__name__}")
        ranks = [np.array(self._fast.encode_ordinary(c), dtype=np.int64) for c in chunks(raw)]
        ids = self._ids[np.concatenate(ranks)]
        return Sample(ids, (len(ids),), len(raw.encode(errors="surrogatepass")))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> str:
        """Return the text of ids [N]; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self._tokens.get(int(i), b"") for i in values).decode(errors="replace")

    @property
    def units(self) -> Mapping[str, Boundaries]:
        """The words and sentences of its ids."""
        return units([self._tokens.get(i, b"") for i in range(self.tokenizer.get_vocab_size())])

    def save(self, folder: Path) -> None:
        """Write tokenizer.json."""
        self.tokenizer.save(str(folder / "tokenizer.json"))


def _capped(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts in chunks, with words (of letters, signs or blanks) cut to LONGEST characters."""
    for text in texts:
        for chunk in chunks(text):
            yield LONG.sub(lambda word: word.group()[:LONGEST], chunk)


def _tokenizer(model: models.Model, words: str) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _bytes(token: str) -> bytes:
    """Return the bytes of a byte-level token, which writes unprintable ones as U+0100 and on."""
    return bytes(ord(c) if ord(c) in PLAIN else ODD[ord(c) - 256] for c in token)
