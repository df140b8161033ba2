"""Cells: the rank-value encoding as its paper says it, files of every layout, damaged files."""

from __future__ import annotations

import math
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from broadbase.adapt.features import classical
from broadbase.adapt.task import Task
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.extras import require_extra
from broadbase.core.sources import Record, Reject
from broadbase.data.detect import labelled
from broadbase.data.sources.cells import H5adConfig
from broadbase.data.store.prepare import prepare
from broadbase.data.store.requests import StoreRequest
from broadbase.evaluate.registry import evaluate
from broadbase.modalities.cell import CellConfig
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load
from support.cells import cells_file

NAMES = [f"GENE{i}" for i in range(8)]
Cell = dict[str, int]
some_cells = st.lists(
    st.dictionaries(st.sampled_from(NAMES), st.integers(1, 9), min_size=1), min_size=1, max_size=8
)


def by_hand(corpus: Sequence[Cell], cell: Cell) -> list[str]:
    """Theodoris et al. 2023, methods: share of the cell's counts over the gene's median share."""
    shares = [{g: n / sum(c.values()) for g, n in c.items()} for c in corpus]
    medians = {g: statistics.median([s[g] for s in shares if g in s]) for g in NAMES
               if any(g in s for s in shares)}  # fmt: skip
    total = sum(cell.values())
    values = {g: n / total / medians[g] for g, n in cell.items() if g in medians}
    return sorted(values, key=lambda g: (-values[g], g))


@given(some_cells, st.data())
def test_ranks_are_those_of_the_paper(corpus: list[Cell], data: st.DataObject) -> None:
    cell = data.draw(st.sampled_from(corpus))
    codec = CellConfig().fit(corpus)
    sample = codec.encode({**dict.fromkeys(NAMES, 0), **cell, "NEVER SEEN": 3 - 3})
    assert sample.grid == (len(cell),)
    ours = codec.decode(sample.values, sample.grid)
    reference = by_hand(corpus, cell)
    assert set(ours) == set(reference)
    total = sum(cell.values())
    value = dict(zip(codec.genes.tolist(), codec.medians.tolist(), strict=True))
    ranked = [cell[g] / total / value[g.encode()] for g in ours]
    wanted = [cell[g] / total / value[g.encode()] for g in reference]
    assert ranked == pytest.approx(wanted)  # equal values may stand in either order


def test_unknown_genes_count_in_the_total_and_are_left_out(tmp_path: Path) -> None:
    corpus = [{"A": 1, "B": 4, "C": 1}, {"A": 1, "B": 4}, {"B": 2, "D": 2}]
    codec = CellConfig(vocab_size=3, max_length=1).fit(corpus)
    assert codec.genes.tolist() == [b"A", b"B"]  # those that most cells show
    assert codec.decode(codec.encode({"A": 2, "B": 2, "Z": 9}).values, (1,)) == ["A"]
    with pytest.raises(ValueError, match=r"none of its 1 genes, such as 'Z', is among .* 'A'"):
        codec.encode({"Z": 1})
    codec.save(tmp_path)
    again = CellConfig(vocab_size=3, max_length=1).load(tmp_path)
    assert again.genes.tolist() == codec.genes.tolist()
    assert np.array_equal(again.medians, codec.medians)
    (tmp_path / "genes.json").write_text("{")
    with pytest.raises(DataError, match=r"genes\.json cannot be read"):
        CellConfig().load(tmp_path)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("CD3D", r"expected a cell as \{gene: count\}, got str"),
        ({"A": -1}, r"-1 of gene 'A' is no count"),
        ({"A": math.nan}, r"nan of gene 'A' is no count"),
        ({"A" * 256: 1}, r"a gene name of 256 bytes"),
        ({"A": 0}, r"a cell without counts"),
    ],
)
def test_what_is_no_cell_is_refused(raw: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CellConfig().clean(raw)


COUNTS = np.random.default_rng(0).poisson(1.5, (30, 12))
COUNTS[0] = 0
GENES = [f"G{i}" for i in range(12)]


def read(path: Path, **settings: Any) -> list[Record | Reject]:
    return list(H5adConfig(path=str(path), **settings).records())


def expected(counts: np.ndarray) -> list[Cell]:
    return [{g: int(n) for g, n in zip(GENES, row, strict=True) if n} for row in counts]


@pytest.mark.parametrize("layout", ["csr", "csc", "dense", "raw", "layer", "old"])
def test_every_layout_is_read(layout: str, tmp_path: Path) -> None:
    path, kinds = tmp_path / "a.h5ad", ["T", "B", None] * 10
    matrix = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}.get(layout, np.asarray)(COUNTS)
    cells_file(path, matrix.astype(np.float32), GENES, kinds, layout)
    result = read(path, label="kind", layer="counts" if layout == "layer" else None)
    empty, *rest = result
    assert isinstance(empty, Reject)
    assert empty.empty
    assert [r.raw for r in rest if isinstance(r, Record)] == expected(COUNTS[1:])
    assert [r.label for r in rest if isinstance(r, Record)] == kinds[1:]
    assert rest[0].origin == f"{path}:cell1"


def normalised(counts: np.ndarray) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4


def test_logarithms_are_undone_and_what_is_neither_is_refused(tmp_path: Path) -> None:
    """Counts, shares and the logarithm of both encode alike; scaled or unknown values never do."""
    forms = {
        "counts": COUNTS,
        "shares": normalised(COUNTS),
        "log counts": np.log1p(COUNTS),
        "log shares": np.log1p(normalised(COUNTS)),
    }
    codec, ranked = CellConfig().fit(expected(COUNTS[1:])), []
    for name, matrix in forms.items():
        cells_file(tmp_path / f"{name}.h5ad", matrix.astype(np.float32), GENES)
        result = read(tmp_path / f"{name}.h5ad")
        ranked.append(
            [codec.encode(r.raw).values.tolist() for r in result if isinstance(r, Record)]
        )
    assert len(ranked[0]) == 29
    assert all(each == ranked[0] for each in ranked)
    scaled = (COUNTS - COUNTS.mean(axis=0)) / COUNTS.std(axis=0)
    cells_file(tmp_path / "scaled.h5ad", scaled.astype(np.float32), GENES)
    (only,) = read(tmp_path / "scaled.h5ad")
    assert isinstance(only, Reject)
    assert "values below 0" in only.reason
    odd = np.where(COUNTS > 0, np.random.default_rng(1).random(COUNTS.shape) + 0.1, 0)
    cells_file(tmp_path / "odd.h5ad", odd.astype(np.float32), GENES)
    (only,) = read(tmp_path / "odd.h5ad")
    assert isinstance(only, Reject)
    assert "neither counts nor their log1p" in only.reason
    assert len(read(tmp_path / "odd.h5ad", values="counts")) == 30  # where the user knows better


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5ad"
    cells_file(path, COUNTS.astype(np.float32), GENES, ["T", "B"] * 15)
    for settings_, reason in (
        ({"label": "kinds"}, "obs has no column `kinds`; did you mean `kind`"),
        ({"layer": "counts"}, "no layer `counts`"),
        ({"limit": 29}, "30 cells of 12 genes, more than 29"),
    ):
        (only,) = read(path, **settings_)
        assert isinstance(only, Reject)
        assert reason in only.reason
    assert labelled(str(path), "text", "kind").name == "h5ad"


def broken(path: Path, name: str) -> None:
    """A file of 30 cells in compressed rows, with one thing wrong."""
    cells_file(path, sparse.csr_matrix(COUNTS.astype(np.float32)), GENES)
    if name == "cut short":
        path.write_bytes(path.read_bytes()[:3000])
    elif name == "text":
        path.write_text("gene,count\nA,1\n")
    else:
        with h5py.File(path, "a") as file:
            x = file["X"]
            if name == "rows that overlap":
                x["indptr"][3] = x["indptr"][4] + 1
            elif name == "another shape":
                x.attrs["shape"] = (30, 13)
            elif name == "a bomb":
                del file["X"]
                file.create_dataset("X", (30, 10**9), "f4", chunks=(1, 10**6))
            elif name == "no cells":
                del file["obs"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cut short", "truncated"),
        ("text", "file signature"),
        ("rows that overlap", "indptr does not rise"),
        ("another shape", r"a matrix of \(30, 13\) for 30 cells of 12 genes"),
        ("a bomb", "X would take 120,000,000,000 bytes"),
        ("no cells", "obs"),
    ],
)
def test_a_damaged_file_is_rejected_by_name(name: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.h5ad"
    broken(path, name)
    (only,) = read(path)
    assert isinstance(only, Reject)
    assert only.origin == str(path)
    assert re.search(reason, only.reason), only.reason


@pytest.mark.parametrize("layout", ["csr", "dense", "csc"])
@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("logged", [False, True])
def test_a_bad_cell_takes_no_other_with_it(
    layout: str, value: float, logged: bool, tmp_path: Path
) -> None:
    counts = COUNTS.astype(np.float32)
    matrix = np.log1p(counts) if logged else counts
    matrix[7, 3] = value
    made = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}.get(layout, np.asarray)(matrix)
    cells_file(tmp_path / "a.h5ad", made, GENES)
    result = read(tmp_path / "a.h5ad")
    bad = result.pop(7)
    assert isinstance(bad, Reject)
    assert "no count" in bad.reason
    assert bad.origin.endswith(":cell7")
    assert [isinstance(r, Record) for r in result] == [False] + [True] * 28


def test_a_damaged_row_takes_no_other_with_it(tmp_path: Path) -> None:
    """A gene that is not, and a piece of the file that cannot be unpacked."""
    path = tmp_path / "a.h5ad"
    cells_file(path, sparse.csr_matrix(COUNTS.astype(np.float32)), GENES)
    with h5py.File(path, "a") as file:
        file["X"]["indices"][5] = 12
    bad = [r for r in read(path) if isinstance(r, Reject) and not r.empty]
    assert [r.origin for r in bad] == [f"{path}:cell1"]
    assert "indices" in bad[0].reason
    cells_file(path, COUNTS.astype(np.float32), GENES)
    with h5py.File(path, "a") as file:
        del file["X"]
        x = file.create_dataset("X", data=COUNTS.astype("f4"), chunks=(5, 12), compression="gzip")
        at = x.id.get_chunk_info(3).byte_offset
    data = bytearray(path.read_bytes())
    data[at + 4 : at + 12] = b"\xff" * 8
    path.write_bytes(data)
    bad = [r for r in read(path) if isinstance(r, Reject) and not r.empty]
    assert [r.origin.rpartition(":")[2] for r in bad] == [f"cell{i}" for i in range(15, 20)]


def test_without_x_the_layers_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5ad"
    cells_file(path, COUNTS.astype(np.float32), GENES, layout="layer")
    with h5py.File(path, "a") as file:
        del file["X"]
    (only,) = read(path)
    assert isinstance(only, Reject)
    assert "no X; its layers: `counts`; name one with the source's `layer`" in only.reason
    assert len(read(path, layer="counts")) == 30


def test_long_names_of_genes_are_kept(tmp_path: Path) -> None:
    long = "ENSG00000238009_AL627309.1_protein_coding"
    codec = CellConfig(vocab_size=8).fit([{long: 2, "A": 1}, {"A": 1, "B": 3}])
    codec.save(tmp_path)
    again = CellConfig(vocab_size=8).load(tmp_path)
    sample = again.encode({long: 2.0, "A": 1})
    assert set(again.decode(sample.values, sample.grid)) == {long, "A"}
    raw = CellConfig().clean({long: 2.0})
    assert CellConfig().clean(raw) is raw
    with pytest.raises(ValueError, match=r"a gene name of 300 bytes, 'GG.*'; it takes 1 to 255"):
        CellConfig().clean({"G" * 300: 1.0})


def programs(path: Path, cells: int) -> None:
    """Two kinds of cells, each showing 16 of 20 genes of its own and 5 of 20 that both have."""
    rng = np.random.default_rng(0)
    counts = np.zeros((cells, 60))
    for row in counts:
        own = 20 * int(rng.integers(2)) + rng.choice(20, 16, replace=False)
        row[[*own, *(40 + rng.choice(20, 5, replace=False))]] = rng.integers(1, 5, 21)
    cells_file(path, sparse.csr_matrix(counts), [f"P{i}" for i in range(60)])


@pytest.mark.slow
def test_a_planted_program_is_detected(tmp_path: Path) -> None:
    """From the other genes a cell's kind is known, and so the genes that may be missing."""
    programs(tmp_path / "cells.h5ad", 400)
    tree: dict[str, Any] = find_recipe("cell").build(1, str(tmp_path)).tree()
    tree["train"] |= {"steps": 250, "evaluate_every": 250, "save_every": 250}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    tree["model"]["modalities"]["cell"]["vocab_size"] = 64
    tree["data"] |= {"holdout": 0.2}
    tree["data"]["sources"]["cell"] |= {"batch_size": 8, "sequence_length": 66}
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "run")
    run.train()
    rows = {(r.metric.name, r.baseline): r for r in evaluate(run, load(tmp_path / "run" / "model"))}
    ten = rows["masked gene accuracy, top 10", "rank"]
    assert ten.items > 200
    assert ten.gap.low > 0.1
    assert ten.model > 0.65
    assert ten.other < 0.6


def test_components_of_expression_tell_two_kinds() -> None:
    rng = np.random.default_rng(0)
    kinds = [str(k) for k in rng.integers(2, size=80)]
    raws = [{f"G{i}": int(n) for i, n in enumerate(rng.poisson(3 + 3 * int(k), 6))} | {"M": 20}
            for k in kinds]  # fmt: skip
    task = Task.from_records("kinds", "cell", raws, kinds)
    train, test = task.split(40, 40, 0)
    scores = {name: score(train, test, 0) for name, score in classical(task).items()}
    assert set(scores) == {"PCA, logistic", "PCA, ridge", "expression, ridge"}
    assert min(scores.values()) > 0.85


def test_without_its_extra_the_recipe_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells_file(tmp_path / "a.h5ad", COUNTS.astype(np.float32), GENES)
    require_extra.cache_clear()
    monkeypatch.setitem(sys.modules, "anndata.io", None)
    with pytest.raises(ConfigError, match=r"needs: pip install 'broadbase\[cells\]'"):
        read(tmp_path / "a.h5ad")
    require_extra.cache_clear()


def test_why_no_genes_are_learned_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.h5ad").write_text("no cells")
    wanted = StoreRequest(H5adConfig(path=str(tmp_path)), CellConfig(), "cell")
    with pytest.raises(DataError, match=r"no cells to learn genes from\n  .*a\.h5ad"):
        prepare({"cell": wanted}, tmp_path / "store")
