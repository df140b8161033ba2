"""The vectors of records that methods learn from; each record is read by the base once.

Legend: M records, or tokens where tokens are labelled; N tokens, L layers, D width, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt import pairs
from broadbase.adapt.inputs import Inputs, content
from broadbase.adapt.vector_cache import VectorCache, current, reading_of
from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored
from broadbase.inference.truncation import beginning, max_tokens

LAST, LAYERS, PROPERTIES = "last layer", "all layers", "properties"
LAYER = "layer "  # before the number of a layer, from 1
JOINT = "joint "  # before the name of a joint head
SPREAD = " and deviations"  # after the name of a representation
Vectors = NDArray[np.float32]


@dataclass
class Encoder:
    """A base that reads records of one modality, and what it has read so far."""

    base: Base
    modality: str
    cache: VectorCache | None = field(default_factory=current)
    _vectors: dict[str, Vectors] = field(default_factory=dict)  # by content: [F], or [N,F]
    _properties: dict[str, Vectors | None] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict)  # what was computed of prompts, by digest
    _reading: str = ""  # the key of the cache

    def keep(self, inputs: Inputs, done: Done = ignored) -> None:
        """Read the records of `inputs` now and keep their vectors, for what asks for them later.

        Of pairs it is their items that are read and kept.
        """
        inputs = inputs.items
        for i, vectors in self._read(inputs, done).items():
            self._vectors[content(inputs.raws[i])] = vectors

    def after(self, inputs: Inputs) -> Encoder:
        """Return an encoder that keeps the vectors of these records as well; this one does not."""
        other = replace(self, _vectors=dict(self._vectors))
        other.keep(inputs)
        return other

    def representations(self, inputs: Inputs) -> tuple[str, ...]:
        """Name the representations of these records that a method may choose from.

        They are the last layer, all layers and each layer; of measured values, as those of sounds
        and images, also the first two with deviations; and what the base predicts. Those of pairs
        are in `pairs.representations`.
        """
        if inputs.paired:
            return pairs.representations(self.representations(inputs.items), LAST)
        one = Inputs([inputs.raws[int(inputs.used[0])]], per_token=inputs.per_token)
        row, spread = self._read(one, ignored)[0], self._spread(inputs)
        depth = row.shape[-1] // self.width // (2 if spread else 1)
        names = [LAST]
        if depth > 1:
            names += [LAYERS, *(f"{LAYER}{i}" for i in range(1, depth))]
        if spread:
            names += [name + SPREAD for name in names[:2]]
        if not inputs.per_token and self._property_vectors(inputs) is not None:
            names.append(PROPERTIES)
        return tuple(names)

    def vectors(self, inputs: Inputs, representation: str) -> Vectors:
        """Return a representation of each record, or of each token, [M,F].

        "last layer": the mean over its tokens of the last layer; "layer 1": that of the first;
        "all layers": those of all, concatenated; with " and deviations" the deviations over its
        tokens follow; "properties": what the base predicts of a record, such as descriptors;
        "joint HEAD": the vector in a joint space. Those of pairs are computed from these of their
        items, as `pairs` says.
        """
        if inputs.paired:
            return self._pair_vectors(inputs, representation)
        if representation == PROPERTIES:
            properties = self._property_vectors(inputs)
            if properties is None:
                raise ConfigError(f"this base predicts no properties of {self.modality!r}")
            return properties
        if representation.startswith(JOINT):
            head, reading = representation.removeprefix(JOINT), beginning(self.base, self.modality)
            joint = reading.embed_joint(inputs.raws, head, modality=self.modality)
            return joint.numpy()
        read = self._read(inputs, ignored)
        take = self._columns(representation, self._spread(inputs))
        rows = {i: take(row) for i, row in read.items()}
        if not inputs.per_token:
            return np.stack([rows[int(i)] for i in inputs.used])
        if inputs.tokens is None:
            return np.concatenate([rows[int(i)] for i in inputs.used])
        return np.stack([rows[int(i)][int(position)] for i, position in inputs.tokens])

    def _pair_vectors(self, inputs: Inputs, representation: str) -> Vectors:
        """Return a representation of each pair, [M,F]."""
        if representation == pairs.COSINES:
            first, second = np.split(self.vectors(inputs.items, LAYERS), 2)
            return pairs.cosines(first, second, self.width)
        make = pairs.compared if representation.endswith(pairs.COMPARED) else pairs.composed
        items = self.vectors(inputs.items, representation.removesuffix(pairs.COMPARED))
        first, second = np.split(items, 2)
        return make(first, second)

    @property
    def width(self) -> int:
        """The width D of a layer."""
        return self.base.config.towers[self.base.tower(self.modality)].width

    def _spread(self, inputs: Inputs) -> bool:
        """Return whether deviations are read as well: of records whose values are measured."""
        return not inputs.per_token and self.base.codec(self.modality)[1].start.ndim > 0

    def _columns(self, representation: str, spread: bool) -> Callable[[Vectors], Vectors]:
        """Return what takes a representation out of what was read of a record or its tokens."""
        name, columns = representation.removesuffix(SPREAD), slice(None)
        if name == LAST:
            columns = slice(-self.width, None)
        elif name != LAYERS:
            end = int(name.removeprefix(LAYER)) * self.width
            columns = slice(end - self.width, end)

        def take(row: Vectors) -> Vectors:
            means, deviations = np.split(row, 2, axis=-1) if spread else (row, row)
            taken = means[..., columns]
            if representation == name:
                return taken
            return np.concatenate([taken, deviations[..., columns]], axis=-1)

        return take

    def _read(self, inputs: Inputs, done: Done) -> dict[int, Vectors]:
        """Return what is read of each record by its number; what is kept is not read again.

        The means of all layers [L*D], and then as many deviations where they are read; of a token
        its states. The last layer is that before the final norm. Of equal records one is read.
        """
        digests = {int(i): content(inputs.raws[i]) for i in inputs.used}
        rows = {each: self._vectors[each] for each in digests.values() if each in self._vectors}
        missing = {each: inputs.raws[i] for i, each in digests.items() if each not in rows}
        if missing and inputs.per_token:
            new: Any = self.base.embed_tokens(
                [*missing.values()], modality=self.modality, done=done
            )
            rows |= dict(zip(missing, new, strict=True))
        elif missing:
            rows |= self._embedded(missing, self._spread(inputs), done)
        return {i: rows[each] for i, each in digests.items()}

    def _embedded(self, raws: Mapping[str, Any], spread: bool, done: Done) -> dict[str, Vectors]:
        """Return what is read of records by their digests, from the cache where it has them."""
        limit, rows = max_tokens(self.base, self.modality), dict[str, Vectors]()
        if self.cache is not None:
            settings = {"modality": self.modality, "max_tokens": limit, "deviations": spread}
            self._reading = self._reading or reading_of(self.base, **settings)
            rows |= self.cache.get(self._reading, [*raws])
            done(len(rows))
        missing = {each: raw for each, raw in raws.items() if each not in rows}
        if missing:
            reading, records = beginning(self.base, self.modality), [*missing.values()]
            new = reading.embed(records, modality=self.modality, deviations=spread, done=done)
            computed = dict(zip(missing, new, strict=True))
            if self.cache is not None:
                self.cache.put(self._reading, computed)
            rows |= computed
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
