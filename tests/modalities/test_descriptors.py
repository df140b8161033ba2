"""Descriptors: RDKit's numbers, standardised, and told from a molecule's places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import Descriptors

from broadbase.core.errors import DataError
from broadbase.inference.base import Base
from broadbase.modalities.descriptors import NAMES, DescriptorsConfig
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from support.models import MODALITIES, TOWER

SMILES = ["CCO", "c1ccccc1", "CC(=O)O", "CCN(CC)CC", "O=C(O)c1ccccc1O", "CCCCCCCC"]


def test_a_molecule_becomes_its_descriptors_and_comes_back(tmp_path: Path) -> None:
    config = DescriptorsConfig()
    codec = config.fit(SMILES)
    table = np.concatenate([codec.encode(smiles).values for smiles in SMILES])
    assert table.shape == (len(SMILES), len(NAMES))
    np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-5)
    codec.save(tmp_path)
    result = config.load(tmp_path).decode(codec.encode("CCO").values, (1,))
    every = Descriptors.CalcMolDescriptors(Chem.MolFromSmiles("CCO"))
    for name in NAMES:
        assert result[name] == pytest.approx(every[name], rel=1e-4, abs=1e-4)


def test_a_base_tells_them_of_complete_molecules() -> None:
    """From the mean of a molecule's places, each read by itself; of other records nothing."""
    tree = {
        "modalities": {"smiles": {"name": "molecule"}, "d": {"name": "descriptors"}, **MODALITIES},
        "towers": {"main": TOWER},
    }
    config = ModelConfig.from_tree(tree)
    model = config.build().eval()
    initialise(model, 0)
    codecs = {name: config.modalities[name].fit(SMILES) for name in ("smiles", "bytes")}
    base = Base(config, model, codecs)
    output = base.predict_properties(SMILES, modality="smiles")
    assert output is not None
    assert output.shape == (len(SMILES), len(NAMES))
    assert output.std(axis=0).min() > 0
    for smiles, row in zip(SMILES, output, strict=True):
        last = base.embed([smiles], modality="smiles", layers=False)
        expected = model.spaces["d"].predict(torch.from_numpy(last))  # type: ignore[operator]
        np.testing.assert_allclose(row, expected[0].detach(), atol=1e-5)
    assert base.predict_properties(["CCO"], modality="bytes") is None


def test_what_is_no_molecule_is_refused() -> None:
    config = DescriptorsConfig()
    with pytest.raises(ValueError, match="'nonsense' is no molecule"):
        config.clean("nonsense")
    assert config.clean("OCC") == "CCO"
    with pytest.raises(DataError, match="1 molecules are too few"):
        config.fit(["CCO"])
