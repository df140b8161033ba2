"""Prompts: templates, examples and their orders, calibration, and what is saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from broadbase.adapt import answers
from broadbase.adapt.adapted import load_adapted
from broadbase.adapt.answer_bias import evened, fitted_to
from broadbase.adapt.compare import compare
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.examples import Examples, balanced, orders_of
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.methods.prompt import PromptConfig
from broadbase.adapt.prompted import ByLikelihood, ClassesByGeneration, Prompted
from broadbase.adapt.task import Task
from broadbase.adapt.templates import Template
from broadbase.commands.app import app
from broadbase.commands.work.adapt import method_of
from broadbase.core.errors import ConfigError
from broadbase.core.sources import Pair
from broadbase.inference.base import Base
from broadbase.inference.usages import plain_usage
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.weights.folder import save
from support import programs
from support.adapting import saved, score
from support.bases import mixed_base
from support.models import HEADS, TOWER

NONE = np.zeros(0, dtype=np.int64)
BIAS = 3.0  # nats that a planted prior adds to one answer
PREDICT = """
import json, sys
from broadbase.adapt import answers
from broadbase.adapt.adapted import load_adapted
print(json.dumps(load_adapted(sys.argv[1]).predict(json.loads(sys.argv[2]))))
"""


def decoder(bias: float = 0.0) -> Base:
    """A decoder of bytes, which likes the letter b by so many nats more."""
    base = replace(mixed_base(), usage=plain_usage("causal"))
    space: Any = base.model.spaces["bytes"]
    space.bias = nn.Parameter(torch.zeros(len(space.embedding.weight)), requires_grad=False)
    space.bias[ord("b")] = bias
    return base


def task(count: int = 60) -> Task:
    rng = np.random.default_rng(0)
    raws = ["".join(rng.choice(list("cdefgh"), 8)) + str(i) for i in range(count)]
    return Task.from_records("t", "bytes", raws, ["a" if i % 2 else "b" for i in range(count)])


def fitted(base: Base, method: PromptConfig, train: Any = NONE, of: Task | None = None) -> Prompted:
    result = method.fit(Encoder(base, "bytes"), of or task(), train)
    assert isinstance(result, Prompted)
    return result


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"normalise": "length"},
        {"normalise": "prior"},
        {"calibrate": "batch"},
        {"calibrate": "labels"},
        {"shots": 4, "orders": 3},
        {"shots": 2, "choice": "nearest", "orders": 2},
    ],
    ids=str,
)
def test_calibration_removes_a_planted_prior(settings: dict[str, Any]) -> None:
    """What an unbiased decoder says is the truth, which the biased one says again."""
    inputs, train = task().inputs(np.arange(40, 60)), np.arange(40)
    method = PromptConfig(**settings)
    plain, biased = (fitted(decoder(b), method, train).outputs(inputs) for b in (0.0, BIAS))
    chances = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (plain, biased)]
    np.testing.assert_allclose(chances[0], chances[1], atol=0.02)
    raw = method.replace(calibrate="none", normalise="none")
    said = fitted(decoder(BIAS), raw, train).outputs(inputs).argmax(axis=1)
    assert (said == 1).all()  # b, for every record


def test_evening_makes_classes_equally_likely() -> None:
    logprobs = np.log(np.random.default_rng(0).dirichlet([8, 1, 1], 50))
    affine = evened(logprobs)
    np.testing.assert_allclose(np.exp(logprobs + affine.bias).mean(axis=0), 1, atol=1e-12)


def test_labels_fit_a_bias_that_was_planted() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in chances])
    planted = logits - np.array([0.0, 2.0, -1.0])
    affine = fitted_to(planted - planted.max(axis=1, keepdims=True), labels)
    assert affine.scale == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(affine.bias - affine.bias[0], [0, 2, -1], atol=0.15)


def test_a_template_has_the_columns_of_the_data() -> None:
    template = Template.of("{{q}} {question}: {answer} right?", ("question", "answer"))
    assert template.fill(Pair("why", "so")) == "{q} why: so right?"
    assert Template.of("", ("text",)).fill("x{y}") == "text: x{y}\nlabel:"
    assert Template.of("({})", ("review",)).fill("good") == "(good)"
    problems = {"{awnser}": "did you mean `answer`", "{": "cannot be read", "x": "no column"}
    for text, problem in problems.items():
        assert problem in Template.of(text, ("question", "answer")).problem


def test_a_prompt_has_the_examples_and_the_record() -> None:
    method = PromptConfig(
        template="{}?", shots=2, verbalizer={"a": "yes"}, instruction="Say.", separator="|"
    )
    of = replace(task(4), raws=["p", "q", "r", "s"])
    prompter = fitted(decoder(), method, np.array([0, 1]), of).prompter
    first, second = (prompter.prompts(Inputs(["x"]), order)[0] for order in range(2))
    assert {first, second} == {"Say.|p? b|q? yes|x?", "Say.|q? yes|p? b|x?"}


def test_examples_without_room_are_left_out_and_counted() -> None:
    method = PromptConfig(template="{}?", shots=3, orders=1, separator="|", context=40)
    of = replace(task(6), raws=["ppppp", "qqqqq", "rrrrr", "x" * 200, "t", "u"])
    result = fitted(decoder(), method, np.arange(3), of)
    (prompt,) = result.prompter.prompts(Inputs(["x" * 200]), 0)
    assert prompt.endswith("|" + "x" * 20 + "?")  # half of the room is for the record
    assert prompt.count("|") == 1
    assert len(prompt) + result.prompter.answer_tokens <= 40
    assert "1 prompts had no room for all 3 examples" in result.remarks[0]
    with pytest.raises(ConfigError, match="no room for a record"):
        fitted(decoder(), method.replace(instruction="y" * 40), np.arange(3), of)


def test_examples_are_balanced_and_orders_differ() -> None:
    strata = np.array([0] * 90 + [1] * 7 + [2] * 3)
    chosen = balanced(strata, 9, np.random.default_rng(0))
    assert np.bincount(strata[chosen]).tolist() == [3, 3, 3]
    assert len({*chosen.tolist()}) == 9
    assert len({tuple(order) for order in orders_of(5, 10, 0)}) == 10
    assert len(orders_of(3, 10, 0)) == 6
    assert orders_of(0, 10, 0) == [[]]


def test_the_nearest_examples_are_those_of_the_vectors() -> None:
    encoder = Encoder(mixed_base(), "bytes")
    raws = ["aaaaaa", "zzzzzz", "mmmmmm"]
    examples = Examples(raws, ["1", "2", "3"], 2, encoder.vectors(Inputs(raws), "last layer"))
    chosen = examples.chosen(encoder, Inputs(["zzzzzz", "aaaaaa"]))
    assert chosen[:, -1].tolist() == [1, 0]
    assert 1 not in examples.chosen(encoder, Inputs(["zzzzzz"]), apart=True)[0]


def test_the_spread_over_ten_orders_is_in_the_result() -> None:
    method = PromptConfig(shots=5, orders=10)
    (row,) = compare(decoder(), task(), method, [10], 10, 2, random_init=False)
    assert [len(each) for each in row.members] == [10] * 2
    assert "10 orders" in row.spread
    assert row.as_json()["order_scores"][0] == list(row.members[0])
    (alone,) = compare(decoder(), task(), PromptConfig(), [0], 10, 2, random_init=False)
    assert alone.spread == ""


def test_classes_are_read_from_what_is_written() -> None:
    method = PromptConfig(by="generation", verbalizer={"a": "not good", "b": "good"})
    result = fitted(decoder(), method, np.arange(3))
    assert isinstance(result, ClassesByGeneration)
    words = ["Not good!", "good, not bad", "so good", "goodness", ""]
    assert [result._class(word) for word in words] == [0, 1, 1, 1, 1]  # b is the commonest
    signs = replace(result, answers=("+", "-"))
    assert [signs._class(word) for word in ("is +.", "- or +")] == [0, 1]
    assert "2 different texts name no class" in result.remarks[-1]
    assert result.outputs(Inputs(["x", "y"])).shape == (2, 2)


def test_texts_are_generated_after_examples() -> None:
    words = [f"w{i}" for i in range(20)]
    of = Task.from_texts("t", "bytes", words, [word[::-1] * 3 for word in words], exact=True)
    result = fitted(decoder(), PromptConfig(shots=2, orders=2), np.arange(4), of)
    outputs = result.outputs(Inputs(["x", "y"]))
    assert outputs.shape == (2, 1)
    assert all("\n" not in text for text in outputs[:, 0])


@pytest.mark.parametrize(
    "method",
    [
        PromptConfig(),
        PromptConfig(shots=3, orders=2, calibrate="labels", normalise="prior"),
        PromptConfig(shots=2, choice="nearest", calibrate="none"),
        PromptConfig(shots=2, by="generation"),
    ],
    ids=["zero", "few", "nearest", "generation"],
)
def test_a_new_process_predicts_the_same(method: PromptConfig, tmp_path: Path) -> None:
    adapted = saved(tmp_path / "adapted", task(16), replace(mixed_base()), method)
    records = ["cdefgh", "hgf", "x"]
    again = load_adapted(tmp_path / "adapted")
    assert again.predict(records) == adapted.predict(records)
    done = programs.run(PREDICT, tmp_path / "adapted", json.dumps(records), check=True)
    assert json.loads(done.stdout) == adapted.predict(records)


@pytest.mark.parametrize(
    ("settings", "labels", "message"),
    [
        ({"template": "{txt}"}, 0, "has the column 'txt'.*did you mean `text`"),
        ({"verbalizer": {"q": "x"}}, 0, "verbalizer has 'q', which is no class"),
        ({"verbalizer": {"a": " "}}, 0, "the answer of class 'a' is empty"),
        ({"verbalizer": {"a": "b"}}, 0, "two classes have the answer 'b'"),
        ({"shots": 12}, 10, "12 shots need as many labels"),
        ({"shots": 2}, 0, "prompt learns from labels, and has none"),
        ({"shots": 10, "calibrate": "labels"}, 10, "all 10 labels are examples"),
        ({"calibrate": "batch"}, 0, "there are no records to calibrate by"),
    ],
    ids=str,
)
def test_bad_settings(settings: dict[str, Any], labels: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(decoder(), task(), PromptConfig(**settings), [labels], 20, 2)


def test_bad_tasks() -> None:
    values = Task.from_values("v", "bytes", list("abcdefgh"), list(range(8)))
    with pytest.raises(ConfigError, match="one class or a text"):
        compare(decoder(), values, PromptConfig(), [4], 2, 2)
    full = replace(decoder(), usage=plain_usage("full"))
    with pytest.raises(ConfigError, match="nothing; take one that does"):
        compare(full, task(), PromptConfig(), [0], 20, 2)


def test_a_template_that_ends_in_a_colon_is_a_text() -> None:
    method = method_of("prompt", ["template={text} label:", "verbalizer.a=yes", "shots=2"])
    assert method == PromptConfig(template="{text} label:", verbalizer={"a": "yes"}, shots=2)


def test_the_command_prints_the_spread(tmp_path: Path) -> None:
    save(mixed_base(), tmp_path / "base")
    rows = [f'"{raw}",{"yes" if i % 2 else "no"}' for i, raw in enumerate(task(30).raws)]
    (tmp_path / "d.csv").write_text("\n".join(["review,label", *rows]))
    words = ["adapt", tmp_path / "base", "--data", tmp_path / "d.csv", "--field", "review"]
    words += ["--method", "prompt", "--set", "template={review} is:", "--set", "shots=4"]
    words += ["--set", "orders=10", "--splits", "2", "--train-size", "8", "--modality", "bytes"]
    words += ["--no-baselines"]
    done = CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "by the order of the examples, 10 orders" in done.output
    card = json.loads((tmp_path / "out" / "adapted.json").read_text())
    assert card["facts"]["columns"] == ["review"]
    assert [len(row) for row in card["card"]["result"]["order_scores"]] == [10] * 2


def test_prompts_that_were_read_are_not_read_again() -> None:
    result = fitted(decoder(), PromptConfig(), NONE)
    assert isinstance(result, ByLikelihood)
    inputs = task().inputs(np.arange(10))
    first = result.outputs(inputs)
    result.base.model.spaces["bytes"].bias[ord("b")] = 50  # type: ignore[index,operator]
    np.testing.assert_array_equal(result.outputs(inputs), first)


def test_a_base_with_an_encoder_is_given_the_prompt() -> None:
    """As a published one is read: nothing says how it generates."""
    block: dict[str, Any] = TOWER["layers"][0]["block"]  # type: ignore[index]
    cross = {**block, "cross": {"name": "grouped", **HEADS}}
    towers = {"main": TOWER, "decoder": {**TOWER, "layers": [{"repeat": 2, "block": cross}]}}
    config = ModelConfig.from_tree({"modalities": {"bytes": {"name": "bytes"}}, "towers": towers})
    model = config.build()
    initialise(model, 0)
    codecs = {"bytes": config.modalities["bytes"].fit([])}
    base = Base(config, model.eval(), codecs, plain_usage("full", {"decoder": "causal"}))
    result = fitted(base, PromptConfig(calibrate="none", template="{}?"))
    assert isinstance(result, ByLikelihood)
    outputs = result.outputs(Inputs(["abc", "de"]))
    ready = answers.answering(base, "bytes")
    scored = ready.score_answers(["abc?", "de?"], ["a", "b"], modality="bytes").logprobs
    np.testing.assert_allclose(outputs[:, 0] - outputs[:, 1], scored[:, 0] - scored[:, 1])
    assert score(result, task(), np.arange(10)) >= 0
