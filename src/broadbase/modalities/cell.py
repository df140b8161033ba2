"""Cells by their genes: the rank-value encoding of Geneformer (Theodoris et al. 2023, methods).

A gene's count, as a share of the cell's, is divided by the median of those shares over the training
cells that show the gene. The ids of a cell are its genes in falling order of that quotient: genes
that distinguish this cell come first, those of every cell (ribosomes, housekeeping) last.

Legend: n genes that a cell shows, G genes of the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from broadbase.core.codec import Codec, Sample
from broadbase.core.errors import DataError
from broadbase.modalities.ids import IdsConfig

START = 0
USUAL, LONGEST = 32, 255  # bytes of the longest gene name of most cells, and of any


class CellConfig(IdsConfig):
    """Cells; the genes that most training cells show are one id each, others are left out."""

    name: Literal["cell"] = "cell"
    vocab_size: Annotated[int, Field(ge=2)] = 4096
    """The ids: the start, and one for each gene of the vocabulary."""
    max_length: Annotated[int, Field(ge=1)] = 2048
    """The most genes of a cell; those of the first ranks are kept."""

    def clean(self, raw: Any) -> NDArray[Any]:
        """Return {gene: count} as an array of `_dtype`; ValueError if a count is wrong."""
        if isinstance(raw, np.ndarray) and raw.dtype.names == ("gene", "count"):
            return raw
        if not isinstance(raw, Mapping):
            raise ValueError(f"expected a cell as {{gene: count}}, got {type(raw).__name__}")
        shown = sorted((str(gene).encode(), float(n)) for gene, n in raw.items() if n != 0)
        if not shown:
            raise ValueError("a cell without counts")
        for gene, count in shown:
            if not 0 < count < np.inf:
                raise ValueError(f"{count:g} of gene {gene.decode()!r} is no count of a gene")
            if not 0 < len(gene) <= LONGEST:
                raise ValueError(
                    f"a gene name of {len(gene)} bytes, {gene.decode()[:40]!r}; it takes 1 to"
                    f" {LONGEST}"
                )
        return np.array(shown, dtype=_dtype(max(len(gene) for gene, _ in shown)))

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return a codec of the genes that most cells show, and the medians of their shares."""
        cells = [self.clean(record) for record in records]
        if not cells:
            raise DataError("there are no cells to learn genes from")
        genes = np.concatenate([cell["gene"] for cell in cells])
        shares = np.concatenate([_shares(cell) for cell in cells])
        names, counts = np.unique(genes, return_counts=True)
        order = np.lexsort((shares, genes))
        ends = np.cumsum(counts)
        middles = (ends - counts + (counts - 1) // 2, ends - counts + counts // 2)
        medians = sum(shares[order][middle] for middle in middles) / 2
        most = np.sort(np.argsort(-counts, kind="stable")[: self.vocab_size - 1])
        return CellCodec(self, names[most], medians[most])

    def load(self, folder: Path) -> Codec:
        """Return the codec of genes.json; DataError if the file cannot be read."""
        path = folder / "genes.json"
        try:
            medians = json.loads(path.read_text())
            genes = np.array([gene.encode() for gene in medians], dtype="S")
            return CellCodec(self, genes, np.array(list(medians.values())))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None

    @property
    def ids(self) -> int:
        """The size of the vocabulary."""
        return self.vocab_size


class CellCodec(Codec):
    """Encodes a cell as the ids of its genes by rank, and decodes ids to names of genes."""

    unit = "gene"
    start: NDArray[Any] = np.array(START)

    def __init__(
        self, config: CellConfig, genes: NDArray[np.bytes_], medians: NDArray[np.float64]
    ) -> None:
        self.config = config
        self.genes, self.medians = genes, medians  # [G] in order of their names

    def encode(self, raw: Any) -> Sample:
        """Encode {gene: count}, with or without zeros, as ids [N]."""
        cell = self.config.clean(raw)
        at = np.minimum(np.searchsorted(self.genes, cell["gene"]), len(self.genes) - 1)
        listed = self.genes[at] == cell["gene"]
        if not listed.any():
            raise ValueError(
                f"none of its {len(cell)} genes, such as {cell['gene'][0].decode()!r}, is among"
                f" those of the training cells, such as {self.genes[0].decode()!r}"
            )
        values = _shares(cell)[listed] / self.medians[at[listed]]
        order = np.argsort(-values, kind="stable")[: self.config.max_length]
        ids = 1 + at[listed][order].astype(np.int64)
        return Sample(ids, (len(ids),), len(ids))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> Sequence[str]:
        """Return the names of the genes by rank; counts are lost."""
        return [self.genes[int(v) - 1].decode() for v in values if 0 < v <= len(self.genes)]

    def save(self, folder: Path) -> None:
        """Write genes.json: the median of each gene's shares, by name."""
        names = [gene.decode() for gene in self.genes]
        medians = dict(zip(names, self.medians.tolist(), strict=True))
        (folder / "genes.json").write_text(json.dumps(medians))


def _dtype(longest: int) -> np.dtype[Any]:
    """Return the type of a cell's array: its genes in order, and their counts above 0."""
    return np.dtype([("gene", f"S{max(USUAL, longest)}"), ("count", "<f8")])


def _shares(cell: NDArray[Any]) -> NDArray[np.float64]:
    """Return each count as a share of the cell's, [n]."""
    shares: NDArray[np.float64] = cell["count"] / cell["count"].sum()
    return shares
