"""Real small data and small models that the tests share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from broadbase.core.contracts import Batch, SourceConfig
from broadbase.core.errors import ResourceError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Segment, positions
from broadbase.data.store.prepare import PrepareConfig, prepare
from broadbase.data.store.requests import StoreRequest
from broadbase.data.store.store import Store
from broadbase.evaluate.sandbox import require_wall
from broadbase.modalities.bytes import BytesConfig
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from broadbase.train.speeds import use_onednn

torch.set_num_threads(1)
os.environ.pop("COLUMNS", None)  # a worker of xdist says 80; a table that goes to a file has room


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A worker takes a file whole: the one that takes minutes begins first."""
    items.sort(key=lambda item: item.path.name != "test_ranks.py")


@pytest.fixture
def wall() -> None:
    """Skips a test of programs that run behind a wall where the system gives none."""
    try:
        require_wall()
    except ResourceError as error:
        pytest.skip(str(error))


HEADS = {"heads": 2, "kv_heads": 1, "head_dim": 8}
TOWER = {
    "name": "transformer",
    "width": 16,
    "layers": [
        {
            "repeat": 2,
            "block": {
                "attention": {"name": "grouped", **HEADS},
                "feedforward": {"name": "gated", "hidden_width": 32},
            },
        }
    ],
}
MODALITIES = {
    "bytes": {"name": "bytes"},
    "image": {"name": "image", "height": 4, "width": 4, "channels": 1, "patch": 2},
}


def tiny(seed: int = 0, dtype: torch.dtype = torch.float32) -> Model:
    """A model of two Spaces and two layers, its numbers large enough to matter."""
    config = ModelConfig.from_tree({"modalities": MODALITIES, "towers": {"main": TOWER}})
    model = config.build()
    initialise(model, seed)
    return model.to(dtype)


def packed(lengths: list[list[int]], length: int, seed: int = 0) -> Segment:
    """Rows of random bytes: `lengths[b]` are the documents of row b, the rest is padding."""
    rng = np.random.default_rng(seed)
    rows = len(lengths)
    values = torch.from_numpy(rng.integers(0, 256, (rows, length)))
    document = torch.full((rows, length), -1)
    order = torch.zeros(rows, length, dtype=torch.int64)
    weight = torch.zeros(rows, length)
    for b, sizes in enumerate(lengths):
        at = 0
        for d, size in enumerate(sizes):
            document[b, at : at + size] = d
            order[b, at : at + size] = torch.arange(size)
            weight[b, at + 1 : at + size] = 1
            values[b, at] = 256
            at += size
    place = order.unsqueeze(-1).expand(-1, -1, 3)
    return Segment("bytes", values, place, order, document, loss_weight=weight)


def cells_file(
    path: Path, matrix: Any, genes: list[str], kinds: Sequence[Any] = (), layout: str = "X"
) -> None:
    """An .h5ad file of cells 0, 1, ... with their kinds: matrix as X, raw, layer, or as of old."""
    cells = [f"cell{i}" for i in range(matrix.shape[0])]
    table = {"kind": pd.Categorical(kinds)} if len(kinds) else {}
    obs, var = pd.DataFrame(table, index=cells), pd.DataFrame(index=genes)
    found = anndata.AnnData(matrix, obs=obs, var=var)
    if layout in ("raw", "layer"):
        found.raw = found
        found.layers["counts"] = matrix
        found.X = -np.ones(matrix.shape, np.float32)  # not to be read
    if layout == "layer":
        del found.raw
    if layout != "old":
        found.write_h5ad(path)
        return
    pairs = zip(cells, found.obs["kind"].cat.codes, strict=True)
    codes = np.array([(c.encode(), k) for c, k in pairs], [("index", "S16"), ("kind", "i1")])
    names = np.array([(gene.encode(),) for gene in genes], [("index", "S16")])
    with h5py.File(path, "w") as file:  # anndata 0.6
        file["X"], file["raw.X"] = -np.ones(matrix.shape), np.asarray(matrix)
        file["obs"], file["var"], file["raw.var"] = codes, names, names
        file["uns/kind_categories"] = np.array(list(found.obs["kind"].cat.categories), "S16")


def stored(source: SourceConfig, folder: Path, **settings: float) -> Store:
    """A source of bytes as the store `folder`."""
    wanted = {folder.name: StoreRequest(source, BytesConfig(), "bytes")}
    return prepare(wanted, folder.parent, PrepareConfig(**settings))[0][folder.name]


def images(rows: int, seed: int = 0) -> Segment:
    """Rows of one 2 x 2-patch image each, with its start."""
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.integers(0, 16, (rows, 5, 4)) / 15).float()
    values[:, 0] = -1
    place = torch.cat([torch.zeros(1, 3, dtype=torch.int64), 1 + positions((2, 2))])
    weight = torch.ones(rows, 5)
    weight[:, 0] = 0
    return Segment("image", values, place.expand(rows, -1, -1), loss_weight=weight)


@pytest.fixture(autouse=True)
def products_by_torch() -> None:
    """What multiplies is the process's, and no test finds it as another left it."""
    use_onednn(False)


@pytest.fixture
def batch() -> Batch:
    """Two sources of different row counts, documents of different lengths, one row half padding."""
    text = packed([[5, 7], [12], [3, 3, 3, 3], [4], [2, 9], [11]], 12)
    return Batch(3, {"prose": text, "digits": images(4)}, KeyedRandom(seed=1, step=3))
