"""Descriptors: RDKit's numbers, standardised, and told from a molecule's places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import Descriptors

from broadbase.core.errors import DataError
from broadbase.modalities.descriptors import NAMES, DescriptorsConfig

SMILES = ["CCO", "c1ccccc1", "CC(=O)O", "CCN(CC)CC", "O=C(O)c1ccccc1O", "CCCCCCCC"]


def test_a_molecule_becomes_its_descriptors_and_comes_back(tmp_path: Path) -> None:
    config = DescriptorsConfig()
    codec = config.fit(SMILES)
    table = np.concatenate([codec.encode(smiles).values for smiles in SMILES])
    assert table.shape == (len(SMILES), len(NAMES))
    np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-5)
    codec.save(tmp_path)
    found = config.load(tmp_path).decode(codec.encode("CCO").values, (1,))
    every = Descriptors.CalcMolDescriptors(Chem.MolFromSmiles("CCO"))
    for name in NAMES:
        assert found[name] == pytest.approx(every[name], rel=1e-4, abs=1e-4)


def test_what_is_no_molecule_is_refused() -> None:
    config = DescriptorsConfig()
    with pytest.raises(ValueError, match="'nonsense' is no molecule"):
        config.clean("nonsense")
    assert config.clean("OCC") == "CCO"
    with pytest.raises(DataError, match="1 molecules are too few"):
        config.fit(["CCO"])
