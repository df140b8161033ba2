"""Tokens: ids in the Space of published weights, made by their tokenizer or by one trained here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tokenizers import Tokenizer

from broadbase.core.contracts import Codec, Corruption, ModalityConfig, Sample
from broadbase.core.errors import ConfigError
from broadbase.modalities.noise import MaskOrSwap
from broadbase.nn.spaces import Discrete, DiscreteConfig


class TokensConfig(ModalityConfig):
    """A vocabulary made by others; `start` and `end` are its ids for a document's two ends.

    With `by`, records are those of that modality, ids made as there; only the Space is another.
    """

    divisible: ClassVar[bool] = True
    name: Literal["tokens"] = "tokens"
    discrete: DiscreteConfig
    start: int = 0
    end: int | None = None
    stands: dict[str, int] = Field(
        default_factory=dict
    )  # modality -> the id in whose place a record of it is read (LLaVA's <image>)
    begins: bool = True  # whether documents that are read have the start (T5's, SigLIP's have not)
    by: ModalityConfig | None = None  # None: a tokenizer.json

    def clean(self, raw: Any) -> Any:
        return raw if self.by is None else self.by.clean(raw)

    def begun(self, raw: Any) -> Any:
        return raw if self.by is None else self.by.begun(raw)

    def conversions(self, raw: Any) -> tuple[str, ...]:
        return () if self.by is None else self.by.conversions(raw)

    def pieces(self, raw: Any) -> Sequence[str]:
        return () if self.by is None else self.by.pieces(raw)

    def fit(self, records: Iterable[Any]) -> Codec:
        if self.by is not None:
            return self.by.fit(records)
        raise ConfigError(
            "modality 'tokens' is told in the tokenizer of published weights: go on from their"
            " folder, --start FOLDER; or train with 'text', which makes one"
        )

    def load(self, folder: Path) -> Codec:
        if self.by is not None:
            return self.by.load(folder)
        path = folder / "tokenizer.json"
        tokenizer = Tokenizer.from_file(str(path)) if path.exists() else None
        if tokenizer is not None:  # records are encoded whole, and padded by whoever batches them
            tokenizer.no_padding()
            tokenizer.no_truncation()
        return TokensCodec(self, tokenizer)

    def space(self, width: int) -> Discrete:
        return self.discrete.build(width)

    def corruption(self) -> Corruption:
        return MaskOrSwap(self.discrete.vocabulary) if self.by is None else self.by.corruption()

    def corruption_of(self, codec: Codec) -> Corruption:
        return self.corruption() if self.by is None else self.by.corruption_of(codec)


class TokensCodec:
    """Text by the folder's tokenizer.json, or sequences of ids as they are."""

    unit = "byte"

    def __init__(self, config: TokensConfig, tokenizer: Tokenizer | None) -> None:
        self.tokenizer, self.begins, self.stands = tokenizer, config.begins, config.stands
        self.start: NDArray[Any] = np.array(config.start)
        self.end: NDArray[Any] | None = None if config.end is None else np.array(config.end)

    def encode(self, raw: Any) -> Sample:
        if not isinstance(raw, str):
            given = np.asarray(raw, dtype=np.int64)
            return Sample(given, (len(given),), len(given))
        ids = np.array(self._known().encode(raw, add_special_tokens=False).ids, dtype=np.int64)
        return Sample(ids, (len(ids),), len(raw.encode()))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> str | Sequence[int]:
        if self.tokenizer is None:
            return [int(v) for v in values]
        text: str = self.tokenizer.decode([int(v) for v in values])
        return text

    def spell(self, identity: int) -> str:
        """How an id is written in a text."""
        known = None if self.tokenizer is None else self.tokenizer.id_to_token(identity)
        return known or f"id {identity}"

    def save(self, folder: Path) -> None:
        if self.tokenizer is not None:
            self.tokenizer.save(str(folder / "tokenizer.json"))

    def _known(self) -> Tokenizer:
        if self.tokenizer is None:
            raise ValueError("the model folder has no tokenizer.json; give ids, or add the file")
        return self.tokenizer
