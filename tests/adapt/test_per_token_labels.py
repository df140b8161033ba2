"""A label a place: structures are read, splits keep proteins whole, probes find what is planted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from broadbase.adapt.compare import compare
from broadbase.adapt.kinds import PER_TOKEN
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.task import Task
from broadbase.adapt.task_data import read_task
from broadbase.commands.app import app
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import Record, Reject
from broadbase.data.samples.structures import StructuresConfig
from broadbase.data.sources.json_files import JsonLinesConfig
from broadbase.weights.folder import save
from support.bases import protein_base

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")


def planted(count: int = 24, kind: str = "own") -> Task:
    """Places are H where the residue itself, or the one before, is one of the first ten."""
    rng = np.random.default_rng(0)
    raws = ["".join(rng.choice(LETTERS, int(rng.integers(30, 60)))) for _ in range(count)]
    shift = {"own": 0, "before": 1}.get(kind, 0)
    labels = []
    for raw in raws:
        first = [letter in LETTERS[:10] for letter in raw]
        seen = first if not shift else [False, *first[:-1]]
        labels.append("".join("H" if each else "-" for each in seen))
    if kind == "nothing":
        labels = ["".join(rng.permutation(list(label))) for label in labels]
    return Task.from_token_labels("planted", "protein", raws, labels)


@pytest.mark.parametrize("pattern", ["full", "causal"])
def test_vectors_of_positions_are_those_of_the_complete(pattern: str) -> None:
    """Their mean, with those of start and end, is the record's vector; padding changes nothing."""
    base, raws = protein_base(pattern), ["MKV", "ACDEFGHIKL"]
    rows = base.embed_tokens(raws, modality="protein")
    assert [row.shape for row in rows] == [(3, 128), (10, 128)]
    for raw, row in zip(raws, rows, strict=True):
        np.testing.assert_allclose(base.embed_tokens([raw])[0], row, atol=1e-5)
        with torch.inference_mode():
            (_, states, _) = next(base._states([raw], None, True, 1))
        (complete,) = torch.cat(list(states), -1).numpy()
        np.testing.assert_allclose(complete[1 : len(raw) + 1], row, atol=1e-5)
        np.testing.assert_allclose(complete.mean(0), base.embed([raw])[0], atol=1e-5)
    changed = base.embed_tokens(["ACDEFGHIKW"])[0]
    same = np.isclose(changed, rows[1], atol=1e-6).all(axis=1)
    assert same[:9].all() if pattern == "causal" else not same.any()


def test_proteins_stay_complete() -> None:
    task = planted()
    assert task.token_labels is not None
    for seed in range(3):
        train, test = task.split(200, 150, seed)
        assert (len(train), len(test)) == (200, 150)
        owners = [set(task.token_labels[some, 0]) for some in (train, test)]
        assert not owners[0] & owners[1]
        assert len(owners[0]) > 8


def test_what_is_planted_is_detected_and_nothing_else() -> None:
    (own,) = compare(protein_base(), planted(), ProbeConfig(), [300], 200, 3, features=True)
    assert min(own.scores) > 0.9
    assert min(own.against("window of 17, ridge").other_per_item) > 0.9
    (near,) = compare(
        protein_base(), planted(kind="before"), ProbeConfig(), [300], 200, 3, features=True
    )
    assert min(near.against("window of 17, logistic").other_per_item) > 0.85
    (none,) = compare(
        protein_base(), planted(kind="nothing"), ProbeConfig(), [300], 200, 3, features=True
    )
    for score in (*none.scores, *none.against("window of 17, ridge").other_per_item):
        assert 0.35 < score < 0.65
    (nearest,) = compare(protein_base(), planted(), KnnConfig(), [300], 200, 2)
    assert min(nearest.scores) > 0.6  # chance is 0.54
    with pytest.raises(ConfigError, match="learn labels of tokens with probe or knn"):
        compare(protein_base(), planted(), FinetuneConfig(), [300], 200, 2)


def test_letters_for_other_tokens_are_refused() -> None:
    task = Task.from_token_labels("short", "protein", ["MKVLA", "ACD"], ["HH--H", "H-"])
    with pytest.raises(DataError, match="record 1 has 2 labels, and 3 tokens"):
        compare(protein_base(), task, ProbeConfig(), [2], 2, 2)


def chain(residues: list[str], shifted: int = 0) -> str:
    """The C-alphas, and other atoms, of a chain in PDB format."""
    rows = []
    for i, residue in enumerate(residues):
        for atom in ("N", "CA", "C"):
            rows.append(
                f"ATOM  {i:>5}  {atom:<3} {residue} A{i + shifted:>4}      11.1  22.2  33.3"
            )
    return "\n".join(["HEADER    A PROTEIN", *rows, "TER", "END"]) + "\n"


def test_structures(tmp_path: Path) -> None:
    (tmp_path / "1abc.pdb.gz").write_bytes(
        gzip.compress(chain(["MET", "LYS", "VAL", "ALA"]).encode())
    )
    (tmp_path / "1abc.pdb.dssp").write_text("-HHE 1abc\n")
    odd = chain(["MSE", "UNK"]) + chain(["GLY"], 5) + "ENDMDL\n" + chain(["GLY"] * 9)
    (tmp_path / "2abc.pdb").write_text(odd)
    (tmp_path / "2abc.pdb.dssp").write_text("E-H 2abc\n")
    (tmp_path / "3abc.pdb").write_text(chain(["GLY"] * 3))
    (tmp_path / "3abc.pdb.dssp").write_text("--\n")
    (tmp_path / "4abc.pdb.dssp").write_text("--X\n")
    (tmp_path / "4abc.pdb").write_text(chain(["GLY"] * 3))
    (tmp_path / "5abc.pdb.dssp").write_text("--\n")
    result = list(StructuresConfig(path=str(tmp_path)).records())
    good = [r for r in result if isinstance(r, Record)]
    assert [(r.raw, r.label) for r in good] == [("MKVA", "-HHE"), ("MXG", "E-H")]
    assert len({r.group for r in good}) == 2
    bad = [(r.origin.rpartition("/")[2], r.reason) for r in result if isinstance(r, Reject)]
    assert [place for place, _ in bad] == ["3abc.pdb.dssp", "4abc.pdb.dssp", "5abc.pdb.dssp"]
    assert "2 letters for 3 residues" in bad[0][1]
    assert "a letter a residue" in bad[1][1]


def test_from_the_command_line(tmp_path: Path) -> None:
    """Any table with a string of labels a record will do."""
    task = planted()
    assert task.token_labels is not None
    letters = np.array(task.target.names)[task.labels]
    rows = [
        {"text": raw, "states": "".join(letters[task.token_labels[:, 0] == i])}
        for i, raw in enumerate(task.raws)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    again = read_task(
        "a", "protein", JsonLinesConfig(path=str(tmp_path), label="states"), kind=PER_TOKEN
    )
    assert again.labels.tolist() == task.labels.tolist()
    save(protein_base(), tmp_path / "model")
    words = f"adapt {tmp_path / 'model'} --data {tmp_path / 'a.jsonl'} --label states --per-token"
    message = CliRunner().invoke(
        app,
        [
            *words.split(),
            "--train-size",
            "200",
            "--test-size",
            "150",
            "--splits",
            "2",
            "--json",
        ],
    )
    assert message.exit_code == 0, message.output
    (row,) = json.loads(message.stdout)
    assert row["best_features"].startswith("window of 17")
    assert np.mean(row["scores"]) > 0.8
