"""The vectors of records that methods learn from; each record is read by the base once.

Legend: M records, or tokens where tokens are labelled; L layers, D width, F features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt.inputs import Inputs, content
from broadbase.adapt.truncation import beginning
from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored

LAST, LAYERS, PROPERTIES = "last layer", "all layers", "properties"
Vectors = NDArray[np.float32]


@dataclass
class Encoder:
    """A base that reads records of one modality, and what it has read so far."""

    base: Base
    modality: str
    _vectors: dict[str, Vectors] = field(default_factory=dict)  # by content: [L*D], or [N,L*D]
    _properties: dict[str, Vectors | None] = field(default_factory=dict)

    def keep(self, inputs: Inputs, done: Done = ignored) -> None:
        """Read the records of `inputs` now and keep their vectors, for what asks for them later."""
        for i, vectors in self._read(inputs, LAYERS, done).items():
            self._vectors[content(inputs.raws[i])] = vectors

    def representations(self, inputs: Inputs) -> tuple[str, ...]:
        """Name the representations of these records that a method may choose from."""
        if inputs.per_token or self._property_vectors(inputs) is None:
            return (LAYERS,)
        return (LAYERS, PROPERTIES)

    def vectors(self, inputs: Inputs, representation: str) -> Vectors:
        """Return a representation of each record, or of each token, [M,F].

        "all layers": the mean over its tokens of every layer, concatenated; "last layer": that of
        the last; "properties": what the base predicts of a record, such as descriptors.
        """
        if representation == PROPERTIES:
            properties = self._property_vectors(inputs)
            if properties is None:
                raise ConfigError(f"this base predicts no properties of {self.modality!r}")
            return properties
        rows = self._read(inputs, representation, ignored)
        if not inputs.per_token:
            return np.stack([rows[int(i)] for i in inputs.used])
        if inputs.tokens is None:
            return np.concatenate([rows[int(i)] for i in inputs.used])
        return np.stack([rows[int(i)][int(position)] for i, position in inputs.tokens])

    @property
    def width(self) -> int:
        """The width D of a layer."""
        return self.base.config.towers[self.base.tower(self.modality)].width

    def _read(self, inputs: Inputs, representation: str, done: Done) -> dict[int, Vectors]:
        """Return the vectors of each record by its number; those kept are not read again."""
        layers, rows, missing = representation == LAYERS, dict[int, Vectors](), list[int]()
        for i in map(int, inputs.used):
            kept = self._vectors.get(content(inputs.raws[i])) if self._vectors else None
            if kept is None:
                missing.append(i)
            else:
                rows[i] = kept if layers else kept[..., -self.width :]
        if missing:
            raws = [inputs.raws[i] for i in missing]
            if inputs.per_token:
                read: Any = self.base.embed_tokens
                reading = self.base
            else:
                reading = beginning(self.base, self.modality)
                read = reading.embed
            new = read(raws, modality=self.modality, layers=layers, done=done)
            rows |= dict(zip(missing, new, strict=True))
        return rows

    def _property_vectors(self, inputs: Inputs) -> Vectors | None:
        """Return what the base predicts of each record [M,K]; None where it predicts nothing.

        Properties of records whose vectors are kept are kept too.
        """
        digests = [content(raw) for raw in inputs.raws]
        records = {digest: self._properties.get(digest) for digest in digests}
        missing = {d: i for i, d in enumerate(digests) if d not in self._properties}
        if missing:
            raws = [inputs.raws[i] for i in missing.values()]
            reading = beginning(self.base, self.modality)
            new = reading.predict_properties(raws, modality=self.modality)
            records |= {d: None if new is None else new[row] for row, d in enumerate(missing)}
            self._properties |= {d: records[d] for d in missing if d in self._vectors}
        rows = [records[digest] for digest in digests]
        return None if any(row is None for row in rows) else np.stack(rows)  # type: ignore[arg-type]
