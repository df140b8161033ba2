"""Single cells: AnnData files (.h5ad), a record a cell; its raw value is {gene: count}.

Whether a file holds counts or their logarithm is found out, never guessed: the counts of one cell
are whole multiples of its smallest, normalised or not; of log1p they are so only once it is undone.

Legend: C cells, G genes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from upath import UPath

from broadbase.core.config import hint
from broadbase.core.contracts import Record, Reject
from broadbase.core.errors import ConfigError
from broadbase.core.optional import optional
from broadbase.data.apart import apart
from broadbase.data.sources import FilesConfig

BLOCK = 1 << 22  # numbers of a matrix that are read at once, zeros included
LOOK = 256  # cells that are looked at to tell counts from their logarithm
RATIO = 1000  # bytes of an array to a byte of its file: about what deflate packs at most
GENES = 200_000

Cell = tuple[NDArray[Any], NDArray[np.float64]]  # places of the genes it shows, and their values


class H5adConfig(FilesConfig):
    """The cells of AnnData files: their raw counts where there are such, else X, or a `layer`."""

    name: Literal["h5ad"] = "h5ad"
    pattern: str = "**/*.h5ad"
    label: str | None = None  # a column of obs
    layer: str | None = None
    values: Literal["auto", "counts", "log1p"] = "auto"
    limit: Annotated[int, Field(ge=1)] = 1_000_000  # cells of a file
    seconds: Annotated[float, Field(gt=0)] = 60.0  # that decoding may take without a result

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        optional("anndata.io", "cells", "reading .h5ad files")
        return apart(self.decoded, path, self.seconds, (__name__, "anndata.io"))

    def decoded(self, path: UPath) -> Iterator[Record | Reject]:
        """The cells of a file, read by this process."""
        h5py = optional("h5py", "cells", "reading .h5ad files")
        try:
            with path.open("rb") as raw, h5py.File(raw, "r") as file:
                yield from self._cells(path, file)
        except ConfigError:
            raise
        except Exception as error:  # h5py and anndata raise almost any kind on damaged bytes
            yield Reject(str(path), f"not an .h5ad file of counts: {error}")

    def _cells(self, path: UPath, file: Any) -> Iterator[Record | Reject]:
        matrix, var = _chosen(file, self.layer)
        _bounded(path.stat().st_size, (matrix, var, file["obs"]))
        genes, obs = [str(gene) for gene in _table(var).index], _table(file["obs"])
        labels = [None] * len(obs) if self.label is None else _labels(file, obs, self.label)
        _fits(matrix, len(obs), len(genes), self.limit)
        cells = _rows(matrix)
        first = list(islice(cells, LOOK))
        logged = _logged(first) if self.values == "auto" else self.values == "log1p"
        for name, label, (places, values) in zip(
            obs.index, labels, chain(first, cells), strict=True
        ):
            found: dict[str, float] = {}
            for at, value in zip(places, np.expm1(values) if logged else values, strict=True):
                found[genes[at]] = found.get(genes[at], 0.0) + float(value)
            place = f"{path}:{name}"
            if found:
                yield Record(found, place, label)
            else:
                yield Reject(place, "a cell without counts", empty=True)


def _chosen(file: Any, layer: str | None) -> tuple[Any, Any]:
    """The matrix to read, and the table of its genes."""
    if layer is not None:
        if layer not in (known := file.get("layers", {})):
            raise ValueError(f"no layer `{layer}`{hint(layer, known)}")
        return known[layer], file["var"]
    for x, var in (("raw/X", "raw/var"), ("raw.X", "raw.var")):  # since anndata 0.7, and before
        if x in file:
            return file[x], file[var]
    return file["X"], file["var"]


def _bounded(size: int, nodes: Sequence[Any]) -> None:
    """ValueError where an array would be far larger than its file."""

    def check(name: str, node: Any) -> None:
        if getattr(node, "nbytes", 0) > RATIO * size:
            raise ValueError(
                f"{name} would take {node.nbytes:,} bytes, the whole file has {size:,}"
            )

    for node in nodes:
        check(node.name, node)
        if hasattr(node, "visititems"):
            node.visititems(check)


def _table(node: Any) -> Any:
    """obs or var as a data frame."""
    if hasattr(node, "dtype"):  # one array of rows, before anndata 0.7
        rows, frames = node[()], optional("pandas", "cells", "reading .h5ad files").DataFrame
        table = frames.from_records(rows, index=rows.dtype.names[0])
        table.index = table.index.map(bytes.decode)
        return table
    return optional("anndata.io", "cells", "reading .h5ad files").read_elem(node)


def _labels(file: Any, obs: Any, column: str) -> list[str | None]:
    """A column of obs, None where a cell has no value."""
    if column not in obs:
        raise ValueError(f"obs has no column `{column}`{hint(column, list(obs))}")
    values, kept = obs[column], f"{column}_categories"  # kept there before anndata 0.7
    if kept in file.get("uns", {}):
        known = [c.decode() if isinstance(c, bytes) else str(c) for c in file["uns"][kept][()]]
        return [known[code] if code >= 0 else None for code in values]
    return [None if gone else str(v) for v, gone in zip(values, values.isna(), strict=True)]


def _fits(matrix: Any, cells: int, genes: int, limit: int) -> None:
    """ValueError where the matrix has another shape than its tables, or there is too much of it."""
    shape = tuple(int(n) for n in _attribute(matrix, "shape", "h5sparse_shape"))
    if shape != (cells, genes):
        raise ValueError(f"a matrix of {shape} for {cells} cells of {genes} genes")
    if cells > limit or genes > GENES:
        raise ValueError(
            f"{cells:,} cells of {genes:,} genes, more than {limit:,} of {GENES:,}; cut the file,"
            " or raise the source's `limit`"
        )


def _attribute(matrix: Any, *names: str) -> Any:
    """What a matrix says of itself: the array, or the attributes of a sparse one, new or old."""
    if hasattr(matrix, "dtype"):
        return getattr(matrix, names[0], None)
    return next(matrix.attrs[name] for name in names if name in matrix.attrs)


def _rows(matrix: Any) -> Iterator[Cell]:
    """The cells of a matrix in order; ValueError where its parts do not belong together."""
    for block in _blocks(matrix):
        block.eliminate_zeros()
        for a, b in zip(block.indptr, block.indptr[1:], strict=False):
            yield block.indices[a:b], block.data[a:b].astype(np.float64)


def _blocks(matrix: Any) -> Iterator[Any]:
    """A matrix as scipy's compressed rows, some at a time."""
    C, G = _attribute(matrix, "shape", "h5sparse_shape")
    step = max(1, BLOCK // max(1, G))
    if hasattr(matrix, "dtype"):
        for i in range(0, C, step):
            yield sparse.csr_matrix(matrix[i : i + step])
        return
    columns = "csc" in str(_attribute(matrix, "encoding-type", "h5sparse_format"))
    ends, places, data = matrix["indptr"][()].astype(np.int64), matrix["indices"], matrix["data"]
    across = C if columns else G
    lengths = np.diff(ends)
    if (
        len(ends) != (G if columns else C) + 1
        or ends[0]
        or not len(places) == len(data) == ends[-1]
    ):
        raise ValueError("indptr, indices and data do not belong together")
    if len(lengths) and (lengths.min() < 0 or lengths.max() > across):
        raise ValueError("indptr does not rise as it should")
    if columns:
        whole = sparse.csc_matrix((data[()], places[()], ends), shape=(C, G))
        whole.check_format(full_check=True)
        yield whole.tocsr()
        return
    for i in range(0, C, step):
        part = ends[i : i + step + 1]
        inside = slice(part[0], part[-1])
        shape = (len(part) - 1, G)
        block = sparse.csr_matrix((data[inside], places[inside], part - part[0]), shape=shape)
        block.check_format(full_check=True)
        yield block


def _logged(cells: Sequence[Cell]) -> bool:
    """Whether values are log1p of counts; ValueError where they are neither."""
    values = [each for _, each in cells if len(each)]
    together = np.concatenate([np.zeros(1), *values])
    if not np.isfinite(together).all() or together.min() < 0:
        raise ValueError("values below 0 or not finite, so no counts; name a `layer` of counts")
    if (together == np.round(together)).all():
        return False
    counts, logs = _multiples(values), _multiples([np.expm1(each) for each in values])
    if max(counts, logs) < 0.8:
        raise ValueError(
            f"values such as {together[1]:.4g} are neither counts nor their log1p; say which they"
            " are with the source's `values`, or name a `layer` of counts"
        )
    return logs > counts


def _multiples(cells: Sequence[NDArray[np.float64]]) -> float:
    """The share of values that are whole multiples, 2 to 10, of the smallest of their cell."""
    ratios = np.concatenate([each / each.min() for each in cells])
    ratios = ratios[(ratios > 1.05) & (ratios < 10.5)]
    return float((abs(ratios - np.round(ratios)) < 0.05).mean()) if len(ratios) else 0.0
