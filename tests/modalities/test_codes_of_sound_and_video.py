"""Codes of sounds and of films: tokenizers of the same recipe, codes told causally and decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broadbase.core.contracts import ModalityConfig
from broadbase.core.sources import Record
from broadbase.evaluate.registry import evaluate
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load

KINDS: dict[str, tuple[str, int]] = {"audio": ("frames", 2), "video": ("pixels", 1)}
SHORT = {"steps": 60, "evaluate_every": 60, "save_every": 60}
MACHINE = {"device": "cpu", "precision": "fp32", "compile": "off"}


def trained(tree: dict[str, Any], folder: Path) -> Run:
    tree["train"] |= SHORT
    tree["machine"], tree["data"]["holdout"], tree["schedule"]["warmup"] = MACHINE, 0.5, 5
    run = Run.create(RunConfig.from_tree(tree), folder)
    run.train()
    return run


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_and_what_is_reported_in_its_codes(
    kind: str,
    corpus: Path,
    tmp_path: Path,
) -> None:
    target, codebooks = KINDS[kind]
    tree: dict[str, Any] = find_recipe(kind).build(1, str(corpus)).tree()
    tree["objective"] = {"name": "autoencoder", "target": target}
    pair = {"source": "encoder", "target": "decoder"}
    shape = {"codes": 32, "codebooks": codebooks, "code_dim": 8}
    tree["model"]["connectors"] = [{"name": "vector_quantizer", **pair, **shape}]
    source = dict(tree["data"]["sources"][kind])
    run = trained(tree, tmp_path / "vq")
    rows = {row.baseline: row for row in evaluate(run, load(run.folder / "model"))}
    assert rows["mean by position"].verdict == "better"
    codes = {"name": "codes", "tokenizer": str(run.folder), "codes": 32, "codebooks": codebooks}
    codec = ModalityConfig.from_tree(codes).fit([])
    record = next(
        r for r in run.config.data.sources[kind].source.records() if isinstance(r, Record)
    )
    sample = codec.encode(run.config.model.modalities[kind].clean(record.raw))
    assert np.shape(codec.decode(sample.values, sample.grid))[0] > 0
    assert sample.values.ndim == (2 if codebooks > 1 else 1)

    output: dict[str, Any] = find_recipe("image").build(1, str(corpus)).tree()
    output["model"]["modalities"] = {"codes": codes}
    source |= {
        "modality": "codes",
        "sequence_length": max(source["sequence_length"], len(sample.values) + 2),
    }
    output["data"]["sources"] = {"codes": source}
    base = load(trained(output, tmp_path / "causal").folder / "model")
    grid = sample.grid if len(sample.grid) > 1 else None
    drawn = np.asarray(base.generate(max_new_tokens=8, grid=grid))
    assert drawn.size > 0
    assert np.isfinite(drawn).all()
    assert drawn.shape[1:] == np.shape(codec.decode(sample.values, sample.grid))[1:]
