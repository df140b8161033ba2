"""Predictions of a stream of records in its order, a batch at a time; no batch is kept.

Legend: M records, or tokens where tokens are predicted; K columns of outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from broadbase.adapt.adapted import Adapted
from broadbase.adapt.target import Outputs
from broadbase.core.errors import BroadbaseError
from broadbase.core.sources import Pair, Record, Reject, each_part, parts
from broadbase.inference.truncation import is_long

BATCH = 1024  # records that are predicted at once at most
BYTES = 1 << 26  # of the records that are predicted at once
SCORED = 10_000_000  # outputs that are kept for a score; it is that of the first records


@dataclass(frozen=True)
class Prediction:
    """What is predicted of one record, by column; nothing, and an error, where it is unreadable."""

    origin: str
    key: str
    values: Mapping[str, Any]
    error: str = ""


@dataclass
class Predictor:
    """Predicts a stream of records, and counts what it has met."""

    adapted: Adapted
    records: int = 0
    unreadable: int = 0
    first: str = ""  # the origin of the first unreadable record, and why
    truncated: int = 0  # records of which the beginning was read
    unscored: int = 0  # records with a label that the task does not have
    _labels: list[Any] = field(default_factory=list)
    _outputs: list[Outputs] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Look up the codec of the records and its limits."""
        base, modality = self.adapted.fitted.base, self.adapted.modality
        name, self._codec = base.codec(modality)
        self._kind = base.config.modalities[name]
        kind = self.adapted.paired, self.adapted.target
        self.max_tokens = self.adapted.method.record_tokens(base, modality, *kind)
        self._most = base.max_tokens(modality) if self.adapted.per_token else None
        codec = self._codec
        self._encode = codec.encode if self.adapted.per_token else codec.encode_content

    def batches(self, items: Iterable[Record | Reject]) -> Iterator[Sequence[Prediction]]:
        """Yield the predictions of the records, batch by batch."""
        batch, size = list[tuple[Record | Reject, Any]](), 0
        for item in items:
            batch.append(self._read(item))
            size += _bytes(batch[-1][1])
            if len(batch) == BATCH or size > BYTES:
                yield self._predicted(batch)
                batch, size = [], 0
        if batch:
            yield self._predicted(batch)

    def score(self) -> tuple[float, int] | None:
        """Return the score of the records that have a label, and their number; None below two.

        Of tokens the number is that of tokens.
        """
        if len(self._labels) < 2:
            return None
        labels = np.array(self._labels)
        return self.adapted.target.score(labels, np.concatenate(self._outputs)), len(labels)

    def _read(self, item: Record | Reject) -> tuple[Record | Reject, Any]:
        """Return a record and what it is cleaned; a Reject where it cannot be read."""
        if isinstance(item, Reject):
            return item, None
        if isinstance(item.raw, Pair) != self.adapted.paired:
            expected = "a pair" if self.adapted.paired else "one record, and no pair"
            return Reject(item.origin, f"expected {expected}"), None
        try:
            cleaned = each_part(self._kind.clean, item.raw)
            samples = [self._encode(each) for each in parts(cleaned)]
        except BroadbaseError:
            raise
        except (TypeError, ValueError) as error:
            return Reject(item.origin, str(error)), None
        if self._most is None:
            self.truncated += any(is_long(each, self.max_tokens) for each in samples)
        elif (tokens := len(samples[0].values)) > self._most:
            reason = f"{tokens:,} tokens, and the base reads {self._most:,.0f}; cut it"
            return Reject(item.origin, reason), None
        return item, cleaned

    def _predicted(self, batch: Sequence[tuple[Record | Reject, Any]]) -> list[Prediction]:
        """Return the predictions of some records, and count them."""
        raws = [cleaned for item, cleaned in batch if isinstance(item, Record)]
        records = [item for item, _ in batch if isinstance(item, Record)]
        rows: Iterator[Mapping[str, Any]] = iter(())
        if raws:
            outputs = self.adapted.outputs(raws)
            self._keep_score(records, raws, outputs)
            rows = iter(self.adapted.rows(raws, outputs))
        self.records += len(batch)
        predictions = []
        for item, _ in batch:
            origin = _plain(item.origin)
            if isinstance(item, Record):
                predictions.append(Prediction(origin, _plain(item.key), next(rows)))
                continue
            self.unreadable += 1
            self.first = self.first or f"{item.origin}: {item.reason}"
            predictions.append(Prediction(origin, "", {}, _plain(item.reason)))
        return predictions

    def _keep_score(self, records: Sequence[Record], raws: Sequence[Any], outputs: Outputs) -> None:
        """Keep the outputs of records that have a label, as long as there are not too many."""
        sizes = [1] * len(raws)
        if self.adapted.per_token:
            sizes = [len(self._codec.encode(raw).values) for raw in raws]
        first, scored = 0, list[int]()
        for record, size in zip(records, sizes, strict=True):
            rows, first = range(first, first + size), first + size
            if not record.label or len(self._labels) * outputs.shape[1] > SCORED:
                continue
            words = record.label.strip() if self.adapted.per_token else [record.label.strip()]
            labels = [self.adapted.target.parse(word) for word in words]
            if len(labels) == size and all(label is not None for label in labels):
                self._labels += labels
                scored += rows
            else:
                self.unscored += 1
        self._outputs.append(outputs[scored])


def _plain(text: str) -> str:
    """Return a text that can be written as UTF-8: names of files may hold any bytes."""
    return text.encode(errors="backslashreplace").decode()


def _bytes(raw: Any) -> int:
    """Return about how many bytes a cleaned record takes."""
    if isinstance(raw, Pair):
        return sum(map(_bytes, raw))
    if isinstance(raw, str | bytes):
        return len(raw)
    size = getattr(raw, "size", 0)
    if isinstance(size, tuple):  # of a picture
        return int(np.prod(size)) * 4
    return int(getattr(raw, "nbytes", size))
