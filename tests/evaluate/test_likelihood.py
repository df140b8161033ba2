"""Bits per unit: model and n-grams are scored on the same targets."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from broadbase.core.errors import ConfigError
from broadbase.evaluate.likelihood import compare_bits, likelihoods
from broadbase.evaluate.registry import evaluate_against
from broadbase.evidence.comparison import MODEL
from broadbase.inference.usages import plain_usage
from broadbase.recipes.resolve import resolve
from broadbase.run.run import Run
from broadbase.weights.folder import load
from support.recipes import small


def test_likelihoods_of_a_run(corpus: Path, tmp_path: Path) -> None:
    """The model's bits are those of its training's evaluation; a unigram is worse than a 2-gram."""
    run = Run.create(small("mixed", corpus), tmp_path / "run")
    result = run.train()
    base = load(run.folder / "model")
    rows = list(likelihoods(run, base, order=2))
    terms = {source: term for term, source in run.likelihoods().items()}
    assert len(rows) == 3 * len(terms)
    assert set(terms) == {"text", "code", "molecule", "drug", "image"}
    for row in rows:
        assert row.model == pytest.approx(result[terms[row.subject]]["bits_per_unit"], rel=1e-3)
        assert row.metric.better == "lower"
        assert row.gap.low < row.gap.mean < row.gap.high
    by_name = {(r.subject, r.baseline): r.other for r in rows}
    for source in ("text", "code"):
        assert by_name[source, "2-gram, full split"] < by_name[source, "unigram, rows seen"]
    rows = run.seen("text")
    assert len(rows) == min(20 * 4, len(run.rows("train")["text"]))
    batches = run.mixture().batches(0, 20)
    trained = {v.tobytes() for b in batches for v in b.segments["text"].values.numpy()}
    assert trained == {row.values.tobytes() for row in rows}
    with pytest.raises(ConfigError, match="only a model with causal attention has a likelihood"):
        list(
            likelihoods(run, type(base)(base.config, base.model, base.codecs, plain_usage("full")))
        )


def test_the_interval_covers_a_planted_difference() -> None:
    """Of 200 draws with a true difference of 0.1 bits, about 95 % of the intervals hold it."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        other = rng.gamma(5.0, 10.0, 60)
        model = other + 100 * math.log(2) * 0.1 + rng.normal(0, 4, 60)
        (row,) = compare_bits("s", "byte", {MODEL: model, "b": other}, units=60 * 100)
        assert row.model == pytest.approx(model.sum() / math.log(2) / 6000)
        hits += row.gap.low <= 0.1 <= row.gap.high
    assert 180 <= hits <= 199


def test_one_text_is_compared_over_its_chunks(tmp_path: Path) -> None:
    """The head of a single text is trained on; of its end each chunk is an item."""
    words = np.random.default_rng(0).choice(["one ", "two ", "three ", "four "], 4000)
    (tmp_path / "input.txt").write_text("".join(words))
    settings = ["train.steps=2", "data.holdout=0.2", "data.sources.bytes.sequence_length=64"]
    run = Run.create(resolve("bytes", str(tmp_path), 1, settings), tmp_path / "run")
    run.train()
    base = load(run.folder / "model")
    for row in likelihoods(run, base, order=2):
        assert row.metric.name == "bits per byte, chunks of one text"
        assert row.items > 10
        assert row.gap.low < row.gap.mean < row.gap.high
    with pytest.raises(ConfigError, match="has no scores by document"):
        evaluate_against(run, base, base, "twin")
