"""Files of single cells in the layouts that people have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd


def cells_file(
    path: Path, matrix: Any, genes: list[str], kinds: Sequence[Any] = (), layout: str = "X"
) -> None:
    """An .h5ad file of cells 0, 1, ... with their kinds: matrix as X, raw, layer, or as of old."""
    cells = [f"cell{i}" for i in range(matrix.shape[0])]
    table = {"kind": pd.Categorical(kinds)} if len(kinds) else {}
    obs, var = pd.DataFrame(table, index=cells), pd.DataFrame(index=genes)
    result = anndata.AnnData(matrix, obs=obs, var=var)
    if layout in ("raw", "layer"):
        result.raw = result
        result.layers["counts"] = matrix
        result.X = -np.ones(matrix.shape, np.float32)  # not to be read
    if layout == "layer":
        del result.raw
    if layout != "old":
        result.write_h5ad(path)
        return
    pairs = zip(cells, result.obs["kind"].cat.codes, strict=True)
    codes = np.array([(c.encode(), k) for c, k in pairs], [("index", "S16"), ("kind", "i1")])
    names = np.array([(gene.encode(),) for gene in genes], [("index", "S16")])
    with h5py.File(path, "w") as file:  # anndata 0.6
        file["X"], file["raw.X"] = -np.ones(matrix.shape), np.asarray(matrix)
        file["obs"], file["var"], file["raw.var"] = codes, names, names
        file["uns/kind_categories"] = np.array(list(result.obs["kind"].cat.categories), "S16")
