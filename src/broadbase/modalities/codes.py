"""Codes: the ids that a trained tokenizer gives a record.

With one codebook there is an id for each token of the tokenizer, at the same position. With
several, codebook c is delayed by c tokens, so that each id is predicted from those of the codebooks
before it (Copet et al. 2023, MusicGen, 2.2). The sequence is C - 1 tokens longer, not C times as
long.

Legend: N tokens of the tokenizer, C codebooks, V codes of a codebook.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.core.errors import ConfigError
from broadbase.modalities.noise import Hide, MaskOrSwap
from broadbase.model.tokenizer import Tokenizer
from broadbase.nn.spaces.codebooks import CodebooksConfig
from broadbase.nn.spaces.discrete import DiscreteConfig

SPECIAL = 2  # the start, which also fills what the delay leaves empty; the end


class CodesConfig(ModalityConfig):
    """The ids of a tokenizer that was trained with recipe vq."""

    name: Literal["codes"] = "codes"
    tokenizer: str | None = None
    """The folder of the tokenizer's run, or its model folder; null: not chosen yet."""
    codes: Annotated[int, Field(ge=2)] = 512
    """The codes of a codebook, as many as the tokenizer has."""
    codebooks: Annotated[int, Field(ge=1)] = 1
    """The codebooks, as many as the tokenizer has."""

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return the codec of the tokenizer; ConfigError if none is chosen."""
        if self.tokenizer is None:
            raise ConfigError(
                "codes are made by a trained tokenizer: `broadbase pretrain vq` makes one; then add"
                " --set model.modalities.codes.tokenizer=RUN"
            )
        return CodesCodec(self, Tokenizer(Path(self.tokenizer).expanduser()))

    def load(self, folder: Path) -> Codec:
        """Return the codec of the tokenizer that was saved in `folder`."""
        return CodesCodec(self, Tokenizer(folder / "tokenizer"))

    @property
    def id_settings(self) -> DiscreteConfig | None:
        """The settings of the embedder and head of one codebook; None for several."""
        return DiscreteConfig(vocab_size=self.codes + SPECIAL) if self.codebooks == 1 else None

    def space(self, width: int) -> Any:
        """Return the embedder and head of the ids of one codebook or of several."""
        if self.id_settings is not None:
            return self.id_settings.build(width)
        return CodebooksConfig(codes=self.codes + SPECIAL, codebooks=self.codebooks).build(width)

    def corruption(self) -> Corruption:
        """Return a corruption that masks or swaps ids; with several codebooks it only masks."""
        return MaskOrSwap(self.codes) if self.codebooks == 1 else Hide()


class CodesCodec(Codec):
    """Encodes a record as ids [N], or [N+C-1,C] with several codebooks, and decodes them."""

    unit = "code"

    def __init__(self, config: CodesConfig, tokenizer: Tokenizer) -> None:
        made = tokenizer.config
        if (made.codes, made.codebooks) != (config.codes, config.codebooks):
            raise ConfigError(
                f"the tokenizer {tokenizer.folder} has {made.codebooks} codebooks of {made.codes};"
                f" set model.modalities.codes.codes={made.codes} and"
                f" model.modalities.codes.codebooks={made.codebooks}"
            )
        self.autoencoder, self.C, self.V = tokenizer, config.codebooks, config.codes
        self.start, self.end = self._everywhere(self.V), None
        if tokenizer.codec.end is not None:
            self.end = self._everywhere(self.V + 1)

    def encode(self, raw: Any) -> Sample:
        """Encode a record of the kind that the tokenizer encodes."""
        ids_NC, grid = self.autoencoder.encode(raw)
        if self.C == 1:
            return Sample(ids_NC[:, 0], grid, len(ids_NC))
        if len(grid) > 1:
            raise ConfigError(
                "several codebooks are delayed along a line, and this record is a"
                f" {' x '.join(map(str, grid))} grid; train its tokenizer with one codebook"
            )
        delayed = np.full((len(ids_NC) + self.C - 1, self.C), self.V)
        for c in range(self.C):
            delayed[c : c + len(ids_NC), c] = ids_NC[:, c]
        return Sample(delayed, (len(delayed),), ids_NC.size)

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> Any:
        """Return what the tokenizer decodes; an id that is no code counts as code 0."""
        ids_NC = np.where(values < self.V, values, 0).reshape(len(values), self.C)
        if self.C > 1:
            n = len(ids_NC) - self.C + 1
            ids_NC = np.stack([ids_NC[c : c + n, c] for c in range(self.C)], axis=1)
            grid = (n,)
        return self.autoencoder.decode(ids_NC, grid)

    def save(self, folder: Path) -> None:
        """Write the tokenizer's model folder."""
        self.autoencoder.save(folder / "tokenizer")

    def _everywhere(self, identity: int) -> NDArray[Any]:
        return np.array(identity) if self.C == 1 else np.full(self.C, identity)
