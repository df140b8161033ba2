"""Retrieval augmentation: records are read together with the passages that an index has for them.

Lewis et al. 2020, "Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks".

Legend: M records, F features, K columns of outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from broadbase.adapt.delegated import Delegated, ThenConfig
from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.inputs import Inputs, content
from broadbase.adapt.learning import FOLDS, cross_outputs
from broadbase.adapt.method import Arrays, Fitted, MethodConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.reading import reader
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Outputs, Target
from broadbase.adapt.task import Task
from broadbase.core.errors import BroadbaseError
from broadbase.index.reading import must_be_of, unit
from broadbase.index.search import WEIGHT, Hit, Searcher
from broadbase.index.store import Store
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored

NEVER = 1e9  # a threshold that no passage reaches
KEPT = 4096  # records whose passages are remembered


class RetrieveConfig(ThenConfig):
    """The method `then` learns from each record with the passages that an index has for it.

    A prediction cites the best passage. Where that is not near enough, it abstains.
    """

    name: Literal["retrieve"] = "retrieve"
    index: str = ""
    """The file that `broadbase index` wrote, with the base that is adapted."""
    then: MethodConfig = ProbeConfig()
    """The method that learns the labels; its name, or its name and settings."""
    passages: Annotated[int, Field(ge=1)] = 1
    """How many passages are read after a record, as far as the base reads."""
    weight: Annotated[float, Field(ge=0, le=1)] = WEIGHT
    """The share of vectors in the search, and the rest of words; where the method trains the base,
    words alone count, since the index has vectors of the base as it was."""
    least: float | None = None
    """What predictions are to score on average in cross-validation: those of records whose best
    passage is less near than that takes abstain. Without it none does."""

    @property
    def trains_base(self) -> bool:  # type: ignore[override]
        """As the method that learns the labels."""
        return self.then.trains_base

    @property
    def saves_base(self) -> bool:
        """As the method that learns the labels."""
        return self.then.saves_base

    @property
    def work(self) -> int:
        """As many steps as the method that learns the labels takes."""
        return self.then.work

    def readings(self, records: int) -> float:
        """Return those of `then`, and one of the record with its passages."""
        return 1 + self.then.readings(records)

    @property
    def unchanged(self) -> MethodConfig | None:
        """The method `then`, without passages."""
        return self.then

    def refusal(self, base: Base, task: Task) -> str:
        """Refuse records that are no texts, and an index that is none or of another base."""
        if task.paired or task.token_labels is not None or not isinstance(task.raws[0], str):
            return "passages are read after a text with one label; learn other records with probe"
        if not self.index:
            return "retrieve reads passages of an index; name it with --set index=FILE"
        if self.least is not None and not task.target.names and not task.target.generates:
            return "least counts scores of single records, and numbers have none; leave it out"
        store = Store.open(Path(self.index))
        must_be_of(store, base)
        store.close()
        return self.then.unsuited(base, task)

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Learn from the records with their passages, and choose below what to abstain."""
        retriever = self._retriever(encoder, str(Path(self.index).expanduser().absolute()))
        raws: list[Any] = [*task.raws]
        chosen = [int(i) for i in train]
        for i, raw in zip(chosen, retriever.augmented([raws[i] for i in chosen]), strict=True):
            raws[i] = raw
        read = replace(task, raws=raws)
        learned = self.then.fit(encoder, read, train, seed, done)
        threshold, coverage = -NEVER, 1.0
        if self.least is not None:
            parts = 1 if self.then.trains_base else FOLDS
            outputs, held = cross_outputs(encoder, read, self.then, train, seed, done, parts)
            near = [hit.nearness for hit in retriever.best([task.raws[int(i)] for i in held])]
            scores = [
                task.target.score(task.labels[[i]], outputs[[row]]) for row, i in enumerate(held)
            ]
            threshold, coverage = threshold_for(np.array(near), np.array(scores), self.least)
        return Retrieved(learned, retriever, threshold, coverage)

    def restore(
        self, encoder: Encoder, target: Target, arrays: Arrays, facts: Mapping[str, Any]
    ) -> Fitted:
        """Return what `then` learned, with the index as it is now."""
        learned = self.then.restore(encoder, target, arrays, facts["then"])
        retriever = self._retriever(encoder, facts["index"])
        return Retrieved(learned, retriever, facts["threshold"], facts["coverage"])

    def _retriever(self, encoder: Encoder, path: str) -> Retriever:
        """Return what retrieves for a base; of another than the index's by words alone."""
        searcher = Searcher.of(Store.open(Path(path)))
        weight = 0.0 if self.then.trains_base else self.weight
        if weight:
            try:
                must_be_of(searcher.store, encoder.base)
            except BroadbaseError:  # a random init of the base
                weight = 0.0
        return Retriever(encoder, searcher, self.passages, weight)


@dataclass(frozen=True)
class Retriever:
    """Passages of an index for records."""

    encoder: Encoder
    searcher: Searcher
    count: int
    weight: float
    _hits: dict[str, list[Hit]] = field(default_factory=dict)  # by content, of the last records

    def augmented(self, raws: Sequence[str]) -> list[Any]:
        """Return each record with its passages after it, cleaned."""
        read = reader(self.encoder.base, self.encoder.modality)
        return [
            read("\n".join([raw, *(hit.text for hit in hits)]))
            for raw, hits in zip(raws, self.hits(raws), strict=True)
        ]

    def best(self, raws: Sequence[str]) -> list[Hit]:
        """Return the best passage of each record; one of nothing where there is none."""
        return [hits[0] if hits else NOTHING for hits in self.hits(raws)]

    def hits(self, raws: Sequence[str]) -> list[list[Hit]]:
        """Return the passages of each record, without any that is the record itself."""
        digests = [content(raw) for raw in raws]
        missing = {d: raw for d, raw in zip(digests, raws, strict=True) if d not in self._hits}
        if len(self._hits) + len(missing) > KEPT:
            kept = {d: self._hits[d] for d in digests if d in self._hits}
            self._hits.clear()
            self._hits.update(kept)
        vectors: Any = [None] * len(missing)
        if self.weight and missing:
            vectors = unit(self.encoder.vectors(Inputs([*missing.values()]), LAST))
        for (digest, raw), vector in zip(missing.items(), vectors, strict=True):
            hits = self.searcher.search(raw, vector, self.count + 1, self.weight)
            self._hits[digest] = [hit for hit in hits if hit.text != raw.strip()][: self.count]
        return [self._hits[digest] for digest in digests]


NOTHING = Hit("", None, None, "", 0.0, None, 0.0)


@dataclass(frozen=True)
class Retrieved(Delegated):
    """What a method learned of records with their passages."""

    retriever: Retriever
    threshold: float  # of nearness; below it nothing is predicted
    coverage: float  # the share of records in cross-validation that are not below it

    def outputs(self, inputs: Inputs) -> Outputs:
        """Return the outputs of the method for the records with their passages, [M,K]."""
        return self.learned.outputs(Inputs(self.retriever.augmented(inputs.raws)))

    @property
    def facts(self) -> Mapping[str, Any]:
        """Those of the method, the index, and below what it abstains."""
        return {
            "then": dict(self.learned.facts),
            "index": str(self.retriever.searcher.store.path),
            "threshold": self.threshold,
            "coverage": self.coverage,
        }

    @property
    def columns(self) -> Mapping[str, Any]:
        """The passage that is cited, how near it is, and whether nothing is predicted."""
        return {"source": str, "span": str, "nearness": float, "abstained": str}

    def annotated(
        self, raws: Sequence[Any], rows: Sequence[dict[str, Any]]
    ) -> Sequence[dict[str, Any]]:
        """Return rows with these columns; the prediction of one that abstains is empty."""
        result = []
        for hit, row in zip(self.retriever.best(raws), rows, strict=True):
            silent = hit.nearness < self.threshold
            first = {next(iter(row)): None} if silent else {}
            cited = {"source": hit.origin, "span": hit.span, "nearness": hit.nearness}
            result.append({**row, **first, **cited, "abstained": "yes" if silent else ""})
        return result


def threshold_for(
    near: NDArray[np.float64], scores: NDArray[np.float64], least: float
) -> tuple[float, float]:
    """Return the lowest nearness from which on records score `least` on average, and their share.

    Where no part of the records does, it is one that none reaches, and the share is 0.
    """
    order = np.argsort(-near, kind="stable")
    means = np.cumsum(scores[order]) / np.arange(1, len(order) + 1)
    last = np.append(np.diff(near[order]) != 0, True)[: len(order)]  # equal ones stay together
    enough = np.flatnonzero((means >= least) & last)
    if not len(enough):
        return NEVER, 0.0
    return float(near[order[enough[-1]]]), float((enough[-1] + 1) / len(order))
