"""Pairs: sources that tell the same records in different ways, row by row.

The keys of their records identify documents of paired sources; a row is what each source has under
one key. What a source lacks (an unreadable picture, a missing caption) leaves the row out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import numpy as np

from broadbase.core.errors import DataError
from broadbase.data.store.documents import Split
from broadbase.data.store.store import Store


def align_pairs(stores: Mapping[str, Store], side: str) -> dict[str, Split]:
    """Return the documents of one side that all of these stores have, in one order.

    DataError where there are none.
    """
    keys = {name: _keys(store, side) for name, store in stores.items()}
    common = reduce(np.intersect1d, keys.values())
    if not len(common):
        sizes = ", ".join(f"{name} {len(documents)}" for name, documents in keys.items())
        raise DataError(
            f"paired sources have no record of the {side} side in common ({sizes} records); their"
            " records are matched by their keys: file names without ending, or rows of one table"
        )
    documents = {}
    for name, store in stores.items():
        order = np.argsort(keys[name])
        positions = order[np.searchsorted(keys[name], common, sorter=order)]
        documents[name] = store.split(side).take(positions)
    return documents


def _keys(store: Store, side: str) -> np.ndarray:
    return np.array(store.ids(side), dtype="U32")
