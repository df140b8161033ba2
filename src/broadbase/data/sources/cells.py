"""Single cells: AnnData files (.h5ad), a record a cell; its raw value is {gene: count}.

Whether a file holds counts or their logarithm is computed, never guessed: the counts of one cell
are whole multiples of its smallest, normalised or not; of log1p they are so only once it is undone.

Legend: C cells, G genes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from upath import UPath

from broadbase.core.config import hint
from broadbase.core.errors import ConfigError
from broadbase.core.extras import require_extra
from broadbase.core.sources import Record, Reject
from broadbase.data.sources.files import FilesConfig
from broadbase.data.sources.isolated import apart

BLOCK = 1 << 22  # numbers of a matrix that are read at once, zeros included
LOOK = 256  # cells that are looked at to tell counts from their logarithm
RATIO = 1000  # bytes of an array to a byte of its file: about what deflate packs at most
GENES = 200_000

Read = Callable[[int, int], Any]
Cell = tuple[NDArray[Any], NDArray[np.float64]]  # columns of the genes it shows, and their values


class H5adConfig(FilesConfig):
    """The cells of AnnData files: their raw counts where there are such, else X, or a `layer`."""

    name: Literal["h5ad"] = "h5ad"
    pattern: str = "**/*.h5ad"
    label: str | None = None
    """The column of obs with the label; None: no labels."""
    layer: str | None = None
    """The layer to read; None: the raw counts where there are such, else X."""
    values: Literal["auto", "counts", "log1p"] = "auto"
    """Whether values are counts or log1p of counts; auto: computed from the values."""
    limit: Annotated[int, Field(ge=1)] = 1_000_000
    """The most cells of a file."""
    seconds: Annotated[float, Field(gt=0)] = 60.0
    """The seconds that decoding may take without a result."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        require_extra("anndata.io", "cells", "reading .h5ad files")
        return apart(self.decoded, path, self.seconds, (__name__, "anndata.io"))

    def decoded(self, path: UPath) -> Iterator[Record | Reject]:
        """Yield the cells of a file, read by this process."""
        h5py = require_extra("h5py", "cells", "reading .h5ad files")
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
        for name, label, cell in zip(obs.index, labels, chain(first, cells), strict=True):
            yield _record(f"{path}:{name}", label, cell, genes, logged)


def _record(
    origin: str, label: str | None, cell: Cell | str, genes: Sequence[str], logged: bool
) -> Record | Reject:
    if isinstance(cell, str):
        return Reject(origin, f"damaged: {cell}")
    columns, values = cell
    if not _possible(values):
        worst = int(np.argmin(np.where(np.isfinite(values), values, -np.inf)))
        gene = genes[columns[worst]]
        return Reject(
            origin, f"{values[worst]:g} of gene {gene!r}, below 0 or not finite: no count"
        )
    totals: dict[str, float] = {}
    with np.errstate(over="ignore"):  # what is infinite then is refused as a count
        counts = np.expm1(values) if logged else values
    for at, value in zip(columns, counts, strict=True):
        totals[genes[at]] = totals.get(genes[at], 0.0) + float(value)
    if not totals:
        return Reject(origin, "a cell without counts", empty=True)
    return Record(totals, origin, label)


def _chosen(file: Any, layer: str | None) -> tuple[Any, Any]:
    """Return the matrix to read, and the table of its genes."""
    if layer is not None:
        if layer not in (stored := file.get("layers", {})):
            raise ValueError(f"no layer `{layer}`{hint(layer, stored)}")
        return stored[layer], file["var"]
    for x, var in (("raw/X", "raw/var"), ("raw.X", "raw.var")):  # since anndata 0.7, and before
        if x in file:
            return file[x], file[var]
    matrix = file.get("X")
    if getattr(matrix, "shape", ()) is None or matrix is None:
        layers = ", ".join(f"`{name}`" for name in file.get("layers", {})) or "none"
        raise ValueError(f"no X; its layers: {layers}; name one with the source's `layer`")
    return matrix, file["var"]


def _bounded(size: int, nodes: Sequence[Any]) -> None:
    """Raise ValueError where an array would be far larger than its file."""

    def check(name: str, node: Any) -> None:
        if getattr(node, "nbytes", 0) > RATIO * size:
            raise ValueError(f"{name} would take {node.nbytes:,} bytes, the file has {size:,}")

    for node in nodes:
        check(node.name, node)
        if hasattr(node, "visititems"):
            node.visititems(check)


def _table(node: Any) -> Any:
    """Return obs or var as a data frame."""
    if hasattr(node, "dtype"):  # one array of rows, before anndata 0.7
        rows, frames = node[()], require_extra("pandas", "cells", "reading .h5ad files").DataFrame
        table = frames.from_records(rows, index=rows.dtype.names[0])
        table.index = table.index.map(bytes.decode)
        return table
    return require_extra("anndata.io", "cells", "reading .h5ad files").read_elem(node)


def _labels(file: Any, obs: Any, column: str) -> list[str | None]:
    """Return a column of obs, None where a cell has no value."""
    if column not in obs:
        raise ValueError(f"obs has no column `{column}`{hint(column, list(obs))}")
    values, kept = obs[column], f"{column}_categories"  # kept there before anndata 0.7
    if kept in file.get("uns", {}):
        categories = [c.decode() if isinstance(c, bytes) else str(c) for c in file["uns"][kept][()]]
        return [categories[code] if code >= 0 else None for code in values]
    return [None if gone else str(v) for v, gone in zip(values, values.isna(), strict=True)]


def _fits(matrix: Any, cells: int, genes: int, limit: int) -> None:
    """Raise ValueError where the matrix has another shape than its tables.

    Or there is too much of it.
    """
    shape = tuple(int(n) for n in _attribute(matrix, "shape", "h5sparse_shape"))
    if shape != (cells, genes):
        raise ValueError(f"a matrix of {shape} for {cells} cells of {genes} genes")
    if cells > limit or genes > GENES:
        raise ValueError(
            f"{cells:,} cells of {genes:,} genes, more than {limit:,} of {GENES:,}; cut the file,"
            " or raise the source's `limit`"
        )


def _attribute(matrix: Any, *names: str) -> Any:
    """Return what a matrix says of itself.

    The array, or the attributes of a sparse one, new or old.
    """
    if hasattr(matrix, "dtype"):
        return getattr(matrix, names[0], None)
    return next(matrix.attrs[name] for name in names if name in matrix.attrs)


def _rows(matrix: Any) -> Iterator[Cell | str]:
    """Yield the cells of a matrix in order, or why one cannot be read.

    Raise ValueError where none can.
    """
    C, G = _attribute(matrix, "shape", "h5sparse_shape")
    read, step = _reader(matrix), max(1, BLOCK // max(1, G))
    for first in range(0, C, step):
        yield from _block(read, first, min(first + step, C))


def _block(read: Read, first: int, last: int) -> Iterator[Cell | str]:
    """Yield some cells, read at once.

    Where that fails their halves are read, down to the single cells that are damaged.
    """
    try:
        block = read(first, last)
    except Exception as error:  # h5py and scipy raise almost any kind
        if last - first == 1:
            yield str(error)
            return
        middle = (first + last) // 2
        yield from _block(read, first, middle)
        yield from _block(read, middle, last)
        return
    block.eliminate_zeros()
    for a, b in zip(block.indptr, block.indptr[1:], strict=False):
        yield block.indices[a:b], block.data[a:b].astype(np.float64)


def _reader(matrix: Any) -> Read:
    """Return a function that reads cells from a first to a last as scipy's compressed rows.

    ValueError where parts of the matrix do not belong together.
    """
    C, G = _attribute(matrix, "shape", "h5sparse_shape")
    if hasattr(matrix, "dtype"):
        return lambda first, last: sparse.csr_matrix(matrix[first:last])
    columns = "csc" in str(_attribute(matrix, "encoding-type", "h5sparse_format"))
    ends, indices, data = matrix["indptr"][()].astype(np.int64), matrix["indices"], matrix["data"]
    across = C if columns else G
    lengths = np.diff(ends)
    if (
        len(ends) != (G if columns else C) + 1
        or ends[0]
        or not len(indices) == len(data) == ends[-1]
    ):
        raise ValueError("indptr, indices and data do not belong together")
    if len(lengths) and (lengths.min() < 0 or lengths.max() > across):
        raise ValueError("indptr does not rise as it should")
    if columns:
        by_gene = sparse.csc_matrix((data[()], indices[()], ends), shape=(C, G))
        by_gene.check_format(full_check=True)
        rows = by_gene.tocsr()
        return lambda first, last: rows[first:last]

    def read(first: int, last: int) -> Any:
        part = ends[first : last + 1]
        inside, shape = slice(part[0], part[-1]), (last - first, G)
        block = sparse.csr_matrix((data[inside], indices[inside], part - part[0]), shape=shape)
        block.check_format(full_check=True)
        return block

    return read


def _possible(values: NDArray[np.float64]) -> bool:
    """Return whether they may be counts, or logarithms of counts."""
    return bool(np.isfinite(values).all() and values.min(initial=0) >= 0)


def _logged(cells: Sequence[Cell | str]) -> bool:
    """Return whether values are log1p of counts.

    Raise ValueError where those of most cells are neither.
    """
    shown = [cell[1] for cell in cells if not isinstance(cell, str) and len(cell[1])]
    values = [each for each in shown if _possible(each)]
    if len(values) < len(shown) / 2:
        raise ValueError("values below 0 or not finite, so no counts; name a `layer` of counts")
    together = np.concatenate([np.zeros(1), *values])
    if (together == np.round(together)).all():
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        counts, logs = _multiples(values), _multiples([np.expm1(each) for each in values])
    if max(counts, logs) < 0.8:
        raise ValueError(
            f"values such as {together[1]:.4g} are neither counts nor their log1p; say which they"
            " are with the source's `values`, or name a `layer` of counts"
        )
    return logs > counts


def _multiples(cells: Sequence[NDArray[np.float64]]) -> float:
    """Return the share of values that are whole multiples.

    2 to 10, of the smallest of their cell.
    """
    ratios = np.concatenate([each / each.min() for each in cells])
    ratios = ratios[(ratios > 1.05) & (ratios < 10.5)]
    return float((abs(ratios - np.round(ratios)) < 0.05).mean()) if len(ratios) else 0.0
