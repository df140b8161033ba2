"""Which unlabelled records to label next: those that stand for the most of the others.

Facility location, after Wei, Iyer & Bilmes 2015, "Submodularity in data subset selection and active
learning": a record of the pool is as well represented as its cosine with the most similar labelled
one is high, and each suggestion is the record that raises the sum most. It needs no label, and
takes what is labelled into account.

Legend: U unlabelled records, M labelled records, T records to represent, N suggestions, F features.
"""

from __future__ import annotations

import numpy as np
from sklearn.preprocessing import normalize

from broadbase.adapt.encoder import LAST, Encoder, Vectors
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.splits import Indices
from broadbase.inference.embedding import Done, ignored

CANDIDATES, TARGETS = 20_000, 2_000  # 160 MB of cosines at most


def suggest_records(
    encoder: Encoder,
    pool: Inputs,
    labelled: Inputs,
    number: int,
    seed: int = 0,
    done: Done = ignored,
) -> Indices:
    """Return which records of the pool to label, best first, [N], by their vectors.

    Of a pool of more than 20,000 as many are looked at, at random.
    """
    some = np.random.default_rng(seed).permutation(len(pool.raws))[:CANDIDATES]
    candidates = Inputs([pool.raws[i] for i in some])
    choice = _vectors(encoder, candidates, done)
    order: Indices = some[suggest(choice, _vectors(encoder, labelled, done), number)]
    return order


def suggest(pool: Vectors, labelled: Vectors, number: int, seed: int = 0) -> Indices:
    """Return the records of the pool [U,F] to label, best first, [N]; fewer where it is smaller.

    Every beginning of the order is what a smaller `number` gives. Of a pool of more than 2,000 as
    many are represented, at random.
    """
    rows = normalize(pool)
    targets = rows[np.random.default_rng(seed).permutation(len(rows))[:TARGETS]]
    similar = np.maximum(rows @ targets.T, 0)  # [U,T]
    reached = np.zeros(len(targets), similar.dtype)
    if len(labelled):
        reached = np.maximum(normalize(labelled) @ targets.T, 0).max(axis=0)
    order = list[int]()
    left = np.ones(len(rows), dtype=bool)
    for _ in range(min(number, len(rows))):
        gains = np.maximum(similar - reached, 0).sum(axis=1)
        best = int(np.where(left, gains, -1).argmax())
        left[best] = False
        reached = np.maximum(reached, similar[best])
        order.append(best)
    return np.array(order)


def _vectors(encoder: Encoder, inputs: Inputs, done: Done) -> Vectors:
    """Return the vectors of the last layer, [M,F]; [0,0] of no record."""
    if not inputs.raws:
        return np.zeros((0, 0), np.float32)
    encoder.keep(inputs, done)
    return encoder.vectors(inputs, LAST)
