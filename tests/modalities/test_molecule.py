"""Molecules: any SMILES comes back, equal molecules are one, what is none is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadbase.core.sources import Record, Reject
from broadbase.data.sources.sequences import SdfConfig, SmilesFilesConfig
from broadbase.modalities.molecule import MoleculeConfig, canonical

SMILES = [
    "CCO",
    "c1ccccc1",
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "[Na+].[Cl-]",
    "C#N",
    "O=C=O",
    "C[C@H](N)C(=O)O",
    "C[C@@H](N)C(=O)O",
    "F/C=C/F",
    "F/C=C\\F",
    "[13CH4]",
    "[2H]O[2H]",
    "[NH4+]",
    "[O-][N+](=O)c1ccccc1",
    "C1CC2CC1CC2",
    "c1ccc2ccccc2c1",
    "BrC(Cl)I",
    "[Fe+2]",
    "[Se]1C=CC=C1",
    "c1cc[nH]c1",
    "S(=O)(=O)(O)O",
    "P(=O)(O)(O)O",
    "C1CCCCC1",
    "OB(O)c1ccccc1",
    "[SiH4]",
    "N#[N+][O-]",
    "C%10CCCCC%10",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
]
CODEC = MoleculeConfig().fit(SMILES[:12])

molecules = st.lists(st.sampled_from(SMILES), min_size=1, max_size=5).map(".".join)


@given(molecules)
def test_any_smiles_comes_back(smiles: str) -> None:
    for text in (smiles, MoleculeConfig().clean(smiles)):
        sample = CODEC.encode(text)
        assert CODEC.decode(sample.values, sample.grid) == text
        assert sample.units == len(text)


@given(molecules)
def test_cleaning_is_one_spelling_of_the_same_molecule(smiles: str) -> None:
    clean = MoleculeConfig().clean(smiles)
    assert MoleculeConfig().clean(clean) == clean == canonical(smiles)
    backwards = ".".join(reversed(smiles.split(".")))
    assert MoleculeConfig().clean(backwards) == clean


def test_mirror_images_differ() -> None:
    assert MoleculeConfig().clean("C[C@H](N)C(=O)O") != MoleculeConfig().clean("C[C@@H](N)C(=O)O")


@pytest.mark.parametrize("bad", ["C1CC", "c1ccc", "C(C)(C)(C)(C)C", "xyz", "", "Cé", "C C#"])
def test_what_is_no_molecule_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not a molecule"):
        MoleculeConfig().clean(bad)
    with pytest.raises(ValueError, match="expected a SMILES, got int"):
        MoleculeConfig().clean(3)


def test_a_line_that_would_overflow_rdkit_is_refused_at_once() -> None:
    """20,000 atoms in a row end the process in RDKit; a file with its line ends lost has that."""
    with pytest.raises(ValueError, match="30,000 characters; a molecule has at most 2,000"):
        MoleculeConfig().clean("C" * 30_000)
    assert canonical("C" * 30_000) is None


def test_an_unseen_atom_is_spelled_out_and_saved_is_loaded(tmp_path: Path) -> None:
    assert len(CODEC.encode("[Fe+2]").values) == 6
    assert len(CODEC.encode("[Na+]").values) == 1
    CODEC.save(tmp_path)
    again = MoleculeConfig().load(tmp_path)
    assert (again.encode("C[Na+]%10").values == CODEC.encode("C[Na+]%10").values).all()


def test_files(tmp_path: Path) -> None:
    from rdkit import Chem

    (tmp_path / "a.smi").write_text("CCO ethanol\n\nc1ccccc1\tbenzene\n")
    result = list(SmilesFilesConfig(path=str(tmp_path)).records())
    assert [r.raw for r in result if isinstance(r, Record)] == ["CCO", "c1ccccc1"]
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        for i, smiles in enumerate(("CCO", "c1ccccc1")):
            molecule = Chem.MolFromSmiles(smiles)
            molecule.SetProp("logS", str(i))
            writer.write(molecule)
    result = list(SdfConfig(path=str(tmp_path), label="logS").records())
    assert [(r.raw, r.label) for r in result if isinstance(r, Record)] == [
        ("CCO", "0"),
        ("c1ccccc1", "1"),
    ]
    text = (tmp_path / "a.sdf").read_text().replace("C   0", "Xx  0", 1)
    (tmp_path / "a.sdf").write_text(text)
    first, second = SdfConfig(path=str(tmp_path)).records()
    assert isinstance(first, Reject)
    assert isinstance(second, Record)


def test_a_bad_molecule_of_a_file_takes_no_other_with_it(tmp_path: Path) -> None:
    from rdkit import Chem

    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    entries = [f"{block}> <act>\n{value}\n\n$$$$\n" for value in ("high", "h\xf6ch", "", "low")]
    path = tmp_path / "a.sdf"
    path.write_bytes("".join(entries).encode("latin-1"))
    result = list(SdfConfig(path=str(path), label="act").records())
    assert [r.label if isinstance(r, Record) else r.origin for r in result] == [
        "high",
        f"{path}:molecule 2",
        None,
        "low",
    ]
    path.write_text("no molecule")
    (bad,) = SdfConfig(path=str(path)).records()
    assert isinstance(bad, Reject)
    assert not bad.empty


def test_rings_without_end_are_refused(tmp_path: Path) -> None:
    """A helicene of 44 rings takes RDKit seconds, of 80 a minute; odd marks in a file are kept."""
    helicene = "c1ccc2c(c1)ccc1c2ccc2" + "c(c1)ccc1c2ccc2" * 36 + "c1cccc2"
    with pytest.raises(ValueError, match="76 rings; a molecule has at most 32"):
        MoleculeConfig().clean(helicene)
    assert canonical(helicene) is None
    assert canonical("C1CC1" * 32) is not None
    (tmp_path / "a.smi").write_text("CC\x1fCO\n\x0bCCO\nCCO\n")
    damaged = [r.raw for r in SmilesFilesConfig(path=str(tmp_path)).records()]  # type: ignore[union-attr]
    assert damaged == ["CC\x1fCO", "\x0bCCO", "CCO"]
    assert [canonical(raw) for raw in damaged] == [None, None, "CCO"]
