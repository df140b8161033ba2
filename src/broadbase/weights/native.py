"""What config.json says, under `broadbase`, of a model that was trained here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from broadbase.core.config import Config
from broadbase.core.errors import DataError
from broadbase.model.model import ModelConfig
from broadbase.nn.patterns import PATTERNS

FORMAT = 1


class NativeModel(Config):
    """The part of our own; the rest of config.json is a family's, or `model_type` alone."""

    format: Annotated[int, Field(ge=1, le=FORMAT)]
    model: ModelConfig
    pattern: str
    patterns: dict[str, str] = Field(default_factory=dict)  # of towers that see otherwise
    codecs: tuple[str, ...] = ()
    folded: bool = False  # into the embedding: its norm (`folded.py`)
    masked: bool = False  # as a row of its own: the vector of hidden places (`hidden.py`)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self | None:
        """That of a config.json, where it has one; DataError where a later version wrote it."""
        found = config.get("broadbase")
        if found is None:
            return None
        written = found.get("format") if isinstance(found, Mapping) else None
        if isinstance(written, int) and written > FORMAT:
            raise DataError(
                f"config.json has format {written}, this program reads up to {FORMAT}; upgrade"
                " Broadbase"
            )
        return cls.model_validate(found)

    @model_validator(mode="after")
    def _known(self) -> Self:
        for pattern in (self.pattern, *self.patterns.values()):
            if pattern not in PATTERNS:
                raise ValueError(f"no pattern is called {pattern!r}; known: {', '.join(PATTERNS)}")
        for kind, names, known in (
            ("tower", self.patterns, self.model.towers),
            ("modality", self.codecs, self.model.modalities),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"no {kind} is called {name!r}; known: {', '.join(known)}")
        return self
