"""What a run keeps of its data, for comparisons: a 5-gram of the rows it saw, held-out records."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.errors import BroadbaseError, DataError
from broadbase.data.batches import collate
from broadbase.evaluate.likelihood import ORDER, chunks
from broadbase.evidence.ngram import KneserNey
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.inference.documents import document
from broadbase.inference.streaming import Streamed, spelled
from broadbase.nn.spaces.discrete import DiscreteConfig
from broadbase.run.records import HeldOut, held_out
from broadbase.run.run import Run
from broadbase.serve.worker import Worker
from broadbase.studio.bases import Description

TOKENS = 1_000_000  # of the rows that a run saw first, which its 5-gram counts
RECORDS = 200  # the most held-out records that are compared
BATCH = 16  # records embedded in one job of the thread that computes
KEPT = 4
GONE = "the training data of this base are not here"


class RunData:
    """The data of runs, opened when first needed; those of the last few are kept."""

    def __init__(self) -> None:
        self._grams: OrderedDict[tuple[Path, str], KneserNey] = OrderedDict()
        self._vectors: OrderedDict[
            tuple[str, str], tuple[weakref.ref[Base], list[HeldOut], NDArray[np.float32]]
        ] = OrderedDict()

    def gram(self, description: Description, space: str) -> KneserNey:
        """Return a 5-gram of the first million tokens that a run read of a modality of ids.

        DataError where the data of the run are not here, or have no such modality.
        """
        run = _opened(description)
        key = (run.folder, space)
        if key not in self._grams:
            mixed, modality = run.config.data.sources, run.config.model.modalities[space]
            ids = modality.id_settings
            sources = [n for n in run.likelihoods().values() if mixed[n].modality == space]
            if not sources or not isinstance(ids, DiscreteConfig):
                raise DataError(f"this base was not trained to continue {space}")
            rows = [
                (row, run.rows("train")[name].plain)
                for name in sources
                for row in run.seen(name, max(1, TOKENS // mixed[name].row_length))
            ]
            texts = [chunk for row, plain in rows for chunk in chunks(collate([row], space, plain))]
            _keep(self._grams, key, KneserNey.fit(texts, ORDER, ids.vocab_size))
        return self._grams[key]

    async def held_out(
        self, description: Description, base: Base, space: str, worker: Worker
    ) -> tuple[list[HeldOut], NDArray[np.float32]]:
        """Return held-out records of a base's run and their vectors [M,L*D].

        DataError where there are none here.
        """
        key = (description.name, space)
        if key not in self._vectors or self._vectors[key][0]() is not base:
            records = records_of(description, space)
            vectors = []
            for i in range(0, len(records), BATCH):
                samples = [each.sample for each in records[i : i + BATCH]]
                vectors.append(await worker.run(embedded, base, samples, space))
            made = (weakref.ref(base), records, np.concatenate(vectors))
            _keep(self._vectors, key, made)
        return self._vectors[key][1:]


def records_of(description: Description, space: str) -> list[HeldOut]:
    """Return the first held-out records of a modality; DataError where there are none here."""
    run = _opened(description)
    records = [*islice(held_out(run, run.codecs, space), RECORDS)]
    if not records:
        raise DataError(f"its run held out no record of {space}")
    return records


def embedded(base: Base, raws: list[Any], space: str) -> NDArray[np.float32]:
    """Return the vectors of records [M,L*D]."""
    return base.embed(raws, modality=space)


def continued_by_gram(
    gram: KneserNey, base: Base, space: str, text: str | None, sampling: SamplingConfig, most: int
) -> Iterator[Streamed]:
    """Yield what an n-gram continues a text with, drawn as the base's tokens are."""
    codec, kind = base.codecs[space], base.config.modalities[space]
    clean = None if text is None else kind.clean_prefix(text)
    before = document(codec, clean, closed=False, special=True)[0].numpy()
    return spelled(codec, before, _drawn(gram, before, sampling, most))


def _drawn(
    gram: KneserNey, before: NDArray[Any], sampling: SamplingConfig, most: int
) -> Iterator[tuple[int, torch.Tensor]]:
    sample, ids = sampling.build(), [int(i) for i in before]
    for _ in range(most):
        probability = torch.from_numpy(gram.following(np.array(ids)))
        ids.append(int(sample(probability.log()[None, None])))
        yield ids[-1], probability.float()


def _opened(description: Description) -> Run:
    """Return the run of a base; DataError, which names no path, where its data are not here."""
    if description.run is None:
        raise DataError(GONE)
    try:
        return Run.open(description.run)
    except (BroadbaseError, OSError):
        raise DataError(GONE) from None


def _keep(cache: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    cache[key] = value
    while len(cache) > KEPT:
        cache.popitem(last=False)
