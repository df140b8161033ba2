"""Soft prompts: trained vectors before the prompts of a base that does not change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from broadbase.adapt.adapted import load_adapted
from broadbase.adapt.compare import compare
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.methods.prompt import PromptConfig
from broadbase.adapt.methods.soft_prompt import (
    ROWS,
    SPACE,
    VECTORS,
    SoftPromptConfig,
    SoftPrompted,
    SoftPromptLoss,
    answered_rows,
)
from broadbase.adapt.task import Task
from broadbase.core.contracts import Batch
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.inference.usages import plain_usage
from support import programs
from support.adapting import saved, score
from support.bases import mixed_base

PREDICT = """
import json, sys
from broadbase.adapt.adapted import load_adapted
print(json.dumps(load_adapted(sys.argv[1]).predict(json.loads(sys.argv[2]))))
"""
QUICK = SoftPromptConfig(length=4, steps=3, batch=4)


def task(count: int = 40) -> Task:
    raws = [("aaaa" if i % 2 else "zzzz") + str(i) for i in range(count)]
    return Task.from_records("t", "bytes", raws, ["q" if i % 2 else "x" for i in range(count)])


def test_vectors_are_learned_and_the_base_is_not() -> None:
    base = mixed_base()
    before = {name: each.clone() for name, each in base.model.state_dict().items()}
    method = SoftPromptConfig(length=6, steps=120, batch=8, lr=0.1, prompt=PromptConfig(
        template="{}", calibrate="none"))  # fmt: skip
    fitted = method.fit(Encoder(base, "bytes"), task(), np.arange(20))
    assert isinstance(fitted, SoftPrompted)
    assert score(fitted, task(), np.arange(20, 40)) > 0.8
    soft = fitted.prompter.encoder.base.model.state_dict()
    for name, each in before.items():
        torch.testing.assert_close(base.model.state_dict()[name], each, rtol=0, atol=0)
        torch.testing.assert_close(soft[name], each, rtol=0, atol=0)
    assert fitted.arrays()[SPACE].shape == (6, 16)
    assert fitted.base is base


def test_the_gradient_is_that_of_the_answers_alone() -> None:
    """The loss of a batch is the log-probability by which its answers are scored afterwards."""
    method = QUICK.replace(steps=1, lr=1e-12)
    fitted = method.fit(Encoder(mixed_base(), "bytes"), task(), np.arange(8))
    assert isinstance(fitted, SoftPrompted)
    soft = fitted.prompter.encoder.base
    prompts, answers = ["ab", "abc d"], [" q", " xyz"]
    rows = [soft.answer_ids("bytes", p, [a]) for p, a in zip(prompts, answers, strict=True)]
    ids = [(row.prompt + row.answers[0], len(row.prompt) + row.first[0]) for row in rows]
    loss = SoftPromptLoss(soft.tower("bytes"), 4)
    batch = Batch(0, {ROWS: answered_rows("bytes", ids)}, KeyedRandom(0, 0))
    views = loss.views(batch, {})
    (total,) = loss.loss([soft.model(view) for view in views], views).values()
    scored = soft.score_answers(prompts, answers, modality="bytes", prefix=fitted.prefix).logprobs
    assert float(total.detach()) == pytest.approx(-scored[0, 0] - scored[1, 1], rel=1e-5)
    assert loss.term_weights(views)["answer"].weight == 6  # " q" and " xyz" in bytes


def test_a_new_process_predicts_the_same(tmp_path: Path) -> None:
    adapted = saved(tmp_path / "adapted", task(16), mixed_base(), QUICK)
    records = ["aaaa", "zzzz", "b"]
    assert load_adapted(tmp_path / "adapted").predict(records) == adapted.predict(records)
    done = programs.run(PREDICT, tmp_path / "adapted", json.dumps(records), check=True)
    assert json.loads(done.stdout) == adapted.predict(records)
    description = json.loads((tmp_path / "adapted" / "adapted.json").read_text())
    assert description["parameters"] == 4 * 16 + 3  # and a scale and bias of two answers
    assert not description["base"]["copied"]


def test_it_is_compared_with_the_prompt_alone() -> None:
    (row,) = compare(mixed_base(), task(), QUICK, [8], 10, 2)
    assert {each.baseline for each in row.comparisons} >= {"unchanged base", "random init"}


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (QUICK.replace(prompt=PromptConfig(shots=2, calibrate="none")), "leave out shots"),
        (QUICK.replace(prompt=PromptConfig()), "prompt.calibrate=none"),
        (QUICK.replace(prompt=PromptConfig(template="{x}", calibrate="none")), "the column 'x'"),
    ],
    ids=["shots", "calibrate", "template"],
)
def test_refusals(method: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(mixed_base(), task(), method, [8], 10, 2)


def test_a_base_of_full_attention_is_refused() -> None:
    base = replace(mixed_base(), usage=plain_usage("full"))
    with pytest.raises(ConfigError, match="attention 'full'"):
        compare(base, task(), QUICK, [8], 10, 2)
    assert VECTORS.startswith("spaces.")
