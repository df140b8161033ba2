"""Sketches: MinHash of a document's pieces, to find near duplicates (Broder 1997)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

SKETCH = 126  # minima of a sketch: 21 bands of 6
NONE = np.iinfo(np.uint32).max  # every minimum of a document without pieces


def sketch(pieces: Sequence[Sequence[str]]) -> NDArray[np.uint32]:
    """Return the MinHash of each record's shingles, [records, SKETCH] (Broder 1997).

    The share of equal minima estimates the Jaccard similarity of two sets of shingles.
    """
    minima = np.full((len(pieces), SKETCH), NONE, dtype=np.uint32)
    some = [i for i, each in enumerate(pieces) if each]
    if some:
        minima[some] = RMinHash.digests_from_token_sets([pieces[i] for i in some], SKETCH, 0)
    return minima
