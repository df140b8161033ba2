"""Proteins: any residues come back; FASTA is read; relatives are near duplicates."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadbase.core.sources import Record, Reject
from broadbase.data.identity import digest_of
from broadbase.data.sources import sequences
from broadbase.data.sources.homology import families
from broadbase.data.sources.sequences import FastaConfig
from broadbase.data.store.duplicates import clusters
from broadbase.data.store.sketches import sketch
from broadbase.modalities.protein import RESIDUES, ProteinConfig

CODEC = ProteinConfig().fit([])


@given(st.text(RESIDUES, min_size=1))
def test_any_residues_come_back(residues: str) -> None:
    sample = CODEC.encode(residues.lower())
    assert CODEC.decode(sample.values, sample.grid) == residues
    assert sample.units == len(residues)


def test_what_is_no_residue_is_named() -> None:
    assert ProteinConfig().clean("mk vl\nA") == "MKVLA"
    with pytest.raises(ValueError, match="'1' at residue 3"):
        ProteinConfig().clean("MK1")
    for damaged in ("MK\x1fV", "MK\x0bV", "MK\xa0V", "MK\xdfV"):  # blanks to Python; SS in capitals
        with pytest.raises(ValueError, match="at residue 3 is no residue"):
            ProteinConfig().clean(damaged)
    with pytest.raises(ValueError, match="no residues"):
        ProteinConfig().clean(" ")


def test_fasta(tmp_path: Path) -> None:
    text = ">sp|P1 first\nMKV\nLA\n>empty\n>second\nGG\n"
    (tmp_path / "a.fasta").write_text(text)
    (tmp_path / "b.fasta.gz").write_bytes(gzip.compress(text.encode()))
    result = list(FastaConfig(path=str(tmp_path)).records())
    assert [(r.raw, r.label) for r in result if isinstance(r, Record)] == [
        ("MKVLA", "sp|P1"),
        ("GG", "second"),
    ] * 2
    rejects = [r for r in result if isinstance(r, Reject)]
    assert [(r.origin.rpartition("/")[2], r.empty) for r in rejects] == [
        ("a.fasta:4", True),
        ("b.fasta.gz:4", True),
    ]
    (tmp_path / "a.fasta").write_text("MKV\n>late\nGG\n")
    first, *_ = FastaConfig(path=str(tmp_path / "a.fasta")).records()
    assert isinstance(first, Reject)
    assert "before the first '>'" in first.reason


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_marks_of_any_system(end: str, mark: str, tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    path.write_bytes(f"{mark}>a{end}MKV{end}LA{end}{end}>b{end}GG".encode())
    result = list(FastaConfig(path=str(path)).records())
    assert [(r.raw, r.origin) for r in result if isinstance(r, Record)] == [
        ("MKVLA", f"{path}:1"),
        ("GG", f"{path}:5"),
    ]
    assert len(result) == 2


def test_what_is_no_sequence_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "LONGEST", 20)
    path = tmp_path / "a.fasta"
    path.write_text(
        "MKV\nMKV\n>long\n" + 9 * "MKVLA\n" + ">first\nGG\n>long\n" + 30 * "M" + "\n>b\nA"
    )
    result = list(FastaConfig(path=str(path)).records())
    assert [r.raw for r in result if isinstance(r, Record)] == ["GG", "A"]
    rejects = [r for r in result if isinstance(r, Reject)]
    assert [r.origin.rpartition(":")[2] for r in rejects] == ["1", "3", "15"]


def test_relatives_are_detected() -> None:
    rng = random.Random(0)
    proteins = ["".join(rng.choices(RESIDUES[:20], k=300)) for _ in range(40)]
    proteins += [p[:100] + "W" + p[101:] for p in proteins[:10]]
    ids = np.array([np.frombuffer(digest_of(p)[:16], np.uint8) for p in proteins])
    head, _ = clusters(ids, [sketch([ProteinConfig().shingles(p) for p in proteins])], 0.75)
    assert head[40:].tolist() == list(range(10))
    assert head[:40].tolist() == list(range(40))


def test_families_are_detected_and_repeats_are_none(tmp_path: Path) -> None:
    """Copies with a fifth of their residues changed are relatives; strangers with repeats not."""
    rng = np.random.default_rng(0)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    result, truth = [], []
    for family in range(6):
        parent = rng.choice(letters, 300)
        for _ in range(4):
            copy = np.where(rng.random(300) < 0.2, rng.choice(letters, 300), parent)
            start = int(rng.integers(60))
            result.append("Q" * 30 + "".join(copy[start:]))
            truth.append(family)
    numbers = families(result)
    pairs = {(ours, reference) for ours, reference in zip(numbers.tolist(), truth, strict=True)}
    assert len(pairs) == len(set(numbers.tolist())) == 6
    assert families(["", "MKV"]).tolist() == [0, 1]

    text = "".join(f">sp|X|{'AB'[i % 2]}_{'HUMAN' if i % 3 else 'MOUSE'} x\n{s}\n"
                   for i, s in enumerate(result))  # fmt: skip
    (tmp_path / "a.fa").write_text(text)
    source = FastaConfig(path=str(tmp_path), label="_(HUMAN|RAT) ", homologs=True)
    records = [r for r in source.records() if isinstance(r, Record)]
    assert {r.label for r in records} == {"HUMAN"}
    assert len(records) == 16
    assert len({r.group for r in records}) == 6
