"""Needle in a haystack: haystacks hold their needle once, answers depend on nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from broadbase.data.samples.builtin import DigitsConfig
from broadbase.data.sources.needles import AlbumsConfig, reserved
from broadbase.evaluate.needle import (
    ABSENT,
    DEPTHS,
    HAYSTACKS,
    INITIAL,
    INITIAL_MOVED,
    Images,
    Passages,
    answers,
)
from broadbase.evaluate.registry import evaluate
from broadbase.inference.base import Base
from broadbase.modalities.album import AlbumConfig
from broadbase.modalities.bytes import BytesConfig
from broadbase.model.model import ModelConfig
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load
from support.models import TOWER

WORDS = [a + b + c for a in ("lo", "mi", "ra") for b in "nrsvk" for c in ("ak", "el", "in", "ot")]
LINE = re.compile("- ([a-z]+) ([0-9])")


def haystacks(kind: str) -> Any:
    if kind == "text":
        words = [w for w in WORDS if reserved(w)]
        return Passages(WORDS * 20, words, BytesConfig().fit([]))
    return Images(AlbumsConfig(source=DigitsConfig()).shown(True), AlbumConfig().fit([]))


@pytest.mark.parametrize("kind", ["text", "images"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_haystack_has_its_length_and_holds_its_needle_once(kind: str, depth: float) -> None:
    plant, length = haystacks(kind), 300
    present, absent = plant(1, length, depth, True), plant(1, length, depth, False)
    size = len(present.values) + len(present.answer)
    assert length - (12 if kind == "text" else 0) <= size <= length
    assert (present.answer == absent.answer).all()
    if kind == "text":
        text, other = (bytes(h.values[1:].tolist()).decode() for h in (present, absent))
        key, value = text.rsplit("- ", 1)[1], bytes(present.answer.tolist()).decode().strip()
        assert text.count(f"- {key} {value}\n") == 1
        assert f"- {key} {value}\n" not in other
        assert other.endswith(f"- {key}")
        assert len(LINE.findall(text)) == len(LINE.findall(other)) == 2
        before, after = text.split(f"- {key} {value}\n")
        words = [len([w for w in part.split() if w in WORDS]) for part in (before, after)]
        # keys and values of the others are words too
        assert words[0] == pytest.approx(depth * sum(words), abs=12)
    else:
        key = present.values[-1]
        at = [i for i, v in enumerate(present.values[:-1]) if (v == key).all()]
        assert at == [1 + round(depth * (length - 5))]
        assert (present.values[at[0] + 1] == present.answer[0]).all()
        assert not any((v == key).all() for v in absent.values[:-1])
        assert not any((v == present.answer[0]).all() for v in absent.values)
        assert (present.choices[0] == present.answer[0]).all()


def test_answers_do_not_depend_on_padding_or_batch() -> None:
    tree = {"modalities": {"bytes": {"name": "bytes"}}, "towers": {"main": TOWER}}
    config = ModelConfig.from_tree(tree)
    base = Base(config, config.build().eval(), {"bytes": BytesConfig().fit([])})
    plant = haystacks("text")
    rows = [plant(n, length, 0.5, True) for n, length in ((0, 300), (1, 200), (2, 120))]
    correct, nats = answers(base, "bytes", rows)
    for i, row in enumerate(rows):
        alone, alone_nats = answers(base, "bytes", [row])
        assert alone_nats[0] == pytest.approx(nats[i], rel=1e-5)
        assert alone[0] == correct[i]
        logits = base.logits(bytes([*row.values[1:], *row.answer]).decode())
        scores = logits.log_softmax(dim=-1)[len(row.values) - 1 : -1]
        picked = scores.gather(1, torch.from_numpy(row.answer)[:, None])
        assert nats[i] == pytest.approx(float(-picked.sum()), rel=1e-5)


@pytest.mark.slow
def test_a_run_is_compared_with_its_initial_model(tmp_path: Path) -> None:
    """A small model of images, then a run from there with a longer window."""
    tree: dict[str, Any] = find_recipe("album").build(1, "sample:digits").tree()
    album = tree["data"]["sources"]["album"]
    album |= {"batch_size": 8, "sequence_length": 17}
    album["source"] |= {"pictures": 16, "count": 200}
    tree["train"] |= {"steps": 4, "evaluate_every": 4, "save_every": 4}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "short")
    run.train()
    album["sequence_length"] = 65
    album["source"]["pictures"] = 64
    scaling = {"name": "yarn", "factor": 4, "original": 17}
    tree["model"]["towers"]["main"]["positions"]["scaling"] = scaling
    tree["init_from"] = str(run.folder)
    far = Run.create(RunConfig.from_tree(tree), tmp_path / "far")
    far.train()
    rows = evaluate(far, load(far.folder))
    accuracy = [row for row in rows if row.metric.name.startswith("needle accuracy")]
    assert {row.metric.name.split()[2] for row in accuracy} == {"16", "32", "49", "65"}
    assert {row.baseline for row in accuracy} == {ABSENT, INITIAL, INITIAL_MOVED}
    assert all(row.items == HAYSTACKS * len(DEPTHS) for row in accuracy)
    initial = {r.metric: r for r in evaluate(far, load(run.folder)) if r.subject == "album"}
    for row in accuracy:
        if row.baseline == INITIAL:
            assert row.other == initial[row.metric].model
    assert len({(row.metric, row.baseline) for row in rows}) == len(rows)
