"""What config.json says, under `broadbase`, of a model that was trained here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from broadbase.core.config import Config
from broadbase.core.errors import DataError
from broadbase.core.formats import FORMAT, check_format
from broadbase.core.usage import Usage
from broadbase.model.model import ModelConfig
from broadbase.nn.patterns import PATTERNS


class NativeModel(Config):
    """The part of our own; the rest of config.json is a family's, or `model_type` alone."""

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    """The version of this description."""
    model: ModelConfig
    """The towers and modalities of the model."""
    usage: Usage
    """How the base is used."""
    codecs: tuple[str, ...] = ()
    """The modalities whose codecs are in the folder."""
    folded: bool = False
    """Whether the norm of the embedding is folded into it (`fold_norm.py`)."""
    masked: bool = False
    """Whether the vector of masked tokens is a row of the embedding (`mask_token.py`)."""

    @classmethod
    def of(cls, config: Mapping[str, Any], folder: Path) -> Self | None:
        """Return the description in the config.json of a folder; None if it has none.

        DataError if another version wrote it.
        """
        tree = config.get("broadbase")
        if tree is None:
            return None
        if not isinstance(tree, Mapping):
            raise DataError(f"{folder / 'config.json'}: `broadbase` is no mapping; copy it again")
        check_format(tree, folder)
        return cls.model_validate(tree)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        for pattern in (self.usage.attention, *self.usage.attention_of.values()):
            if pattern not in PATTERNS:
                raise ValueError(f"no pattern is called {pattern!r}; known: {', '.join(PATTERNS)}")
        for kind, names, registered in (
            ("tower", self.usage.attention_of, self.model.towers),
            ("modality", self.codecs, self.model.modalities),
            ("modality", self.usage.grids, self.model.modalities),
        ):
            for name in names:
                if name not in registered:
                    options = ", ".join(registered)
                    raise ValueError(f"no {kind} is called {name!r}; known: {options}")
        return self
