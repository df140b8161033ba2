"""Texts as labels: a base learns to generate them, from the loss of the texts alone."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

from broadbase.adapt import answers
from broadbase.adapt.adapted import load_adapted
from broadbase.adapt.answers import AnswerLoss
from broadbase.adapt.compare import compare
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.kinds import CLASSES, GENERATION, guess
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.centroids import CentroidsConfig
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.methods.names import NamesConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.target import ClassWeights
from broadbase.adapt.targets.generation import GenerationTarget, exact_match, word_f1
from broadbase.adapt.task import Task
from broadbase.commands.app import app
from broadbase.core.contracts import Batch
from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.sources import Pair
from broadbase.core.view import Predict, Segment, Stream, View, positions
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.inference.conditioning import SentinelConditioningConfig
from broadbase.inference.usages import plain_usage
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.weights.folder import load, save
from support import programs
from support.adapting import saved
from support.models import HEADS, TOWER

GREEDY = SamplingConfig(temperature=0)
ROOM = 24  # positions of the base with learned ones


def base_of(towers: dict[str, Any], **usage: Any) -> Base:
    tree = {"modalities": {"bytes": {"name": "bytes", "extra_ids": 2}}, "towers": towers}
    config = ModelConfig.from_tree(tree)
    model = config.build()
    initialise(model, 0)
    codec = config.modalities["bytes"].fit([])
    return Base(config, model.eval(), {"bytes": codec}, plain_usage("causal").replace(**usage))


def decoder(width: int = 16) -> Base:
    return base_of({"main": {**TOWER, "width": width}})


def short() -> Base:
    """A decoder with a table of positions."""
    learned = {"name": "learned", "num_positions": ROOM}
    return base_of({"main": {**TOWER, "positions": learned}})


def seq2seq() -> Base:
    """An encoder and a decoder that were pretrained to write missing spans, as T5's."""
    block: dict[str, Any] = TOWER["layers"][0]["block"]  # type: ignore[index]
    cross = {**block, "cross": {"name": "grouped", **HEADS}}
    towers = {"encoder": TOWER, "decoder": {**TOWER, "layers": [{"repeat": 2, "block": cross}]}}
    conditioning = SentinelConditioningConfig(sentinels={"bytes": 258})
    return base_of(towers, attention="full", attention_of={"decoder": "causal"},
                   conditioning=conditioning)  # fmt: skip


def published() -> Base:
    """The same as a published folder is read: nothing says how it generates."""
    usage = plain_usage("full", {"decoder": "causal"})
    return replace(seq2seq(), usage=usage)


def full() -> Base:
    return replace(decoder(), usage=plain_usage("full"))


def reversals() -> Task:
    """All words of three letters of four, and the same backwards."""
    words = ["".join(letters) for letters in itertools.product("abcd", repeat=3)]
    words = [words[i] for i in np.random.default_rng(0).permutation(len(words))]
    return Task.from_texts("back", "bytes", words, [word[::-1] for word in words], exact=True)


def loss_of(base: Base, raws: Sequence[str], texts: Sequence[str]) -> tuple[Tensor, float]:
    """The summed loss of some texts by the objective, and how many tokens it counts."""
    ready = answers.answering(base, "bytes")
    assert ready.usage.conditioning is not None
    objective = AnswerLoss(ready.usage.conditioning)
    rows = answers.rows(ready, "bytes", raws, np.array(texts, dtype=object))
    views = objective.views(Batch(0, rows, KeyedRandom(0, 0)), {})
    (total,) = objective.loss([ready.model(view) for view in views], views).values()
    ((_, weight),) = objective.term_weights(views).items()
    return total, weight.weight


def gradient(base: Base, total: Tensor) -> Tensor:
    base.model.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    parts = [p.grad.flatten() for p in base.model.parameters() if p.grad is not None]
    return torch.cat(parts)


PARTS = st.text("abc", min_size=1, max_size=20)
DOUBLES = {make: make() for make in (decoder, short, seq2seq, published)}
for each in DOUBLES.values():
    each.model.double()


@pytest.mark.parametrize("make", DOUBLES)
@settings(max_examples=12, deadline=None)
@given(rows=st.lists(st.tuples(PARTS, PARTS), min_size=1, max_size=4))
def test_the_gradient_of_a_batch_is_that_of_its_rows_alone(
    make: Any, rows: list[tuple[str, str]]
) -> None:
    """However rows are padded and cut, only tokens of texts count, each once."""
    base = DOUBLES[make]
    total, weight = loss_of(base, *zip(*rows, strict=True))
    together = gradient(base, total)
    alone = [loss_of(base, [raw], [text]) for raw, text in rows]
    apart = sum((gradient(base, each) for each, _ in alone), torch.zeros_like(together))
    torch.testing.assert_close(together, apart, rtol=1e-10, atol=1e-12)
    limit = 10 if make is short else 1000  # half of 24 - 2 for start and end - 1 between
    sizes = [len(text) + 1 if len(text) <= limit else limit for _, text in rows]
    assert weight == sum(sizes) == sum(each for _, each in alone)


def test_the_loss_is_that_of_one_sequence_after_its_prompt() -> None:
    """Computed without views of two segments: start, record, end, start, text, end."""
    base = DOUBLES[decoder]
    start, end = 256, 257
    record, text = [*b"abcab"], [*b"cba"]
    ids = torch.tensor([[start, *record, end, start, *text, end]])
    line = positions((ids.shape[1] - 1,))[None]
    segment = Segment("bytes", ids[:, :-1], line)
    reads = (Predict("bytes", "next"),)
    logits = base.model(View((Stream("main", "main", (segment,), "causal", readouts=reads),)))
    scores = torch.nn.functional.cross_entropy(
        logits.predictions["next"][0], ids[0, 1:], reduction="none"
    )
    total, weight = loss_of(base, ["abcab"], ["cba"])
    torch.testing.assert_close(total, scores[-len(text) - 1 :].sum(), rtol=1e-10, atol=1e-12)
    assert weight == len(text) + 1


@pytest.mark.parametrize("make", [decoder, short, seq2seq])
def test_generation_continues_what_was_trained_on(make: Any) -> None:
    """The likeliest tokens of the trained view are those that are generated one after another."""
    task = reversals()
    base = FinetuneConfig(steps=40, lr=3e-3).fit(Encoder(make(), "bytes"), task, np.arange(64)).base
    assert base.usage.conditioning is not None
    raws = ["abc", "dcbab", "d"]
    texts = base.generate_batch(raws, max_new_tokens=4, sampling=GREEDY)
    assert all(text.isascii() for text in texts)
    for raw, text in zip(raws, texts, strict=True):
        rows = answers.rows(base, "bytes", [raw], np.array([text], dtype=object))
        (view,) = AnswerLoss(base.usage.conditioning).views(Batch(0, rows, KeyedRandom(0, 0)), {})
        (score,) = view.scored
        reads = (score.predict("next"),)
        last = replace(view.streams[-1], readouts=reads)
        logits = base.model(View((*view.streams[:-1], last))).predictions["next"][0]
        likeliest = logits.argmax(dim=-1).tolist()[: len(text.encode())]
        assert base.codec("bytes")[1].decode(np.array(likeliest), (len(likeliest),)) == text


LOADED = (
    "import json, sys, broadbase\n"
    "adapted = broadbase.load_adapted(sys.argv[1])\n"
    "print(json.dumps(adapted.predict(json.loads(sys.argv[2]))))"
)


def test_what_is_planted_is_generated_after_a_reload_in_a_new_process(tmp_path: Path) -> None:
    task = reversals()
    some = replace(task, raws=task.raws[:48], labels=task.labels[:48])
    method = FinetuneConfig(steps=120, batch=24, lr=4e-3)
    learned = saved(tmp_path / "back", some, decoder(64), method)
    new, right = list(task.raws[48:]), task.labels[48:]
    rows = learned.predict(new)
    assert np.mean([row["text"] == label for row, label in zip(rows, right, strict=True)]) > 0.9
    done = programs.run(LOADED, tmp_path / "back", json.dumps(new), check=True)
    assert json.loads(done.stdout) == rows
    alone = load(tmp_path / "back" / "model")  # a base like any other, which answers
    assert alone.generate(new[0], sampling=GREEDY) == rows[0]["text"]


@pytest.mark.slow
def test_a_published_encoder_and_decoder_learn_texts() -> None:
    """The first letter, twice."""
    rng = np.random.default_rng(0)
    raws = ["".join(rng.choice([*"abcd"], 4)) for _ in range(120)]
    task = Task.from_texts("first", "bytes", raws, [raw[0] * 2 for raw in raws], exact=True)
    fitted = FinetuneConfig(steps=200, lr=3e-3).fit(
        Encoder(published(), "bytes"), task, np.arange(80)
    )
    test = np.arange(80, 120)
    assert task.score(fitted.outputs(task.inputs(test)), test) > 0.9
    assert fitted.facts["max_new_tokens"] == 3
    assert fitted.size == 4 * fitted.parameters > 0  # the trained base counts, in fp32


@pytest.mark.parametrize(("make", "tower"), [(decoder, "main"), (published, "decoder")])
def test_layers_of_what_generates_count_from_its_end(make: Any, tower: str) -> None:
    """With a decay of nearly 0 only the last block and what comes after it move."""
    before = make()
    method = FinetuneConfig(steps=2, batch=4, layer_decay=1e-9, weight_decay=0)
    after = method.fit(Encoder(before, "bytes"), reversals(), np.arange(8)).base
    old, new = before.model.state_dict(), after.model.state_dict()
    moved = {name for name in old if (old[name] - new[name]).abs().max() > 1e-6}
    assert moved
    assert all(name.startswith(f"towers.{tower}.") for name in moved), moved


def test_sampled_texts_repeat_and_differ() -> None:
    method = FinetuneConfig(steps=1, temperature=1.0)
    fitted = method.fit(Encoder(decoder(), "bytes"), reversals(), np.arange(40))
    inputs = Inputs(["abc"] * 8)
    texts = fitted.outputs(inputs)[:, 0]
    assert len(set(texts)) > 1
    assert texts.tolist() == fitted.outputs(inputs)[:, 0].tolist()


def official_f1(label: str, text: str) -> float:
    """As the script of SQuAD computes it, without its changes of the texts."""
    right, said = label.split(), text.split()
    if len(right) == 0 or len(said) == 0:
        return float(right == said)
    left, same = list(right), 0
    for word in said:
        if word in left:
            left.remove(word)
            same += 1
    if same == 0:
        return 0.0
    precision, recall = same / len(said), same / len(right)
    return 2 * precision * recall / (precision + recall)


TEXTS = st.lists(st.sampled_from(["a", "b", "the", "c"]), max_size=6).map(" ".join)


@given(TEXTS, TEXTS)
def test_scores_of_texts(label: str, text: str) -> None:
    assert word_f1(label, text) == pytest.approx(official_f1(label, text))
    assert exact_match(label, text) == float(label == text)
    assert exact_match(f" {label}  ", label) == 1
    assert word_f1(label, label) == 1
    assert word_f1(label, text) >= exact_match(label, text)


def test_texts_as_a_target() -> None:
    target, labels = GenerationTarget(), np.array(["b b", "a", "a", "ccc"], dtype=object)
    assert target.constant(labels)[1][:, 0].tolist() == ["a"] * 4
    assert target.score(labels, labels[:, None]) == 1
    assert target.decoded(target.encoded(labels)).tolist() == labels.tolist()
    assert target.parse("  two words ") == "two words"
    assert target.parse(" ") is None
    (opinion,) = target.opinions(labels[:1], np.array([["b a"]], dtype=object), {})
    assert opinion == ("b b", "b a", 0.5)
    assert target.summary(labels) == "4 texts, 3 different, 1.2 words on average"
    assert sorted(target.strata(np.array(["x" * i for i in range(5)]))) == [0, 1, 2, 3, 4]
    with pytest.raises(ConfigError, match="predicts no text"):
        target.ridge()
    weights: ClassWeights = "balanced"
    with pytest.raises(ConfigError, match="no classes to weigh"):
        target.with_weights(weights)
    with pytest.raises(DataError, match="every one of 2 texts is the same"):
        Task.from_texts("t", "bytes", ["x", "y"], ["a", "a "])


def test_neighbours_give_the_text_of_the_nearest(tmp_path: Path) -> None:
    raws = ["apple pie", "apple tart", "steel saw", "steel axe"]
    texts = ["sweet", "baked", "cuts wood", "splits wood"]
    task = Task.from_texts("t", "bytes", raws, texts)
    learned = saved(tmp_path / "near", task, decoder(), KnnConfig())
    assert [row["text"] for row in learned.predict(raws)] == texts
    again = load_adapted(tmp_path / "near")
    new = ["apple pies", "a saw of steel"]
    assert again.predict(new) == learned.predict(new)
    assert {row["text"] for row in again.predict(new)} <= set(texts)


@pytest.mark.parametrize(
    ("method", "base", "message"),
    [
        (ProbeConfig(), decoder(), "probe predicts no text; learn texts with --method finetune"),
        (CentroidsConfig(), decoder(), "centroids predicts no text"),
        (NamesConfig(), decoder(), "names predicts no text"),
        (FinetuneConfig(), full(), "pretrained with attention 'full' and generates nothing"),
        (FinetuneConfig(only_head=True), decoder(), "leave out only_head"),
    ],
)
def test_what_cannot_generate_is_refused(method: MethodConfig, base: Base, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        compare(base, reversals(), method, [20], 20, 2)


def test_texts_of_pairs_are_refused_where_a_base_generates() -> None:
    task = Task.from_texts("t", "bytes", [Pair("a", str(i)) for i in range(40)], [*"ab" * 20])
    with pytest.raises(ConfigError, match="write the two columns into one"):
        compare(decoder(), task, FinetuneConfig(), [20], 16, 2)
    compare(decoder(), task, KnnConfig(), [20], 16, 2)


def test_baselines_of_texts_and_records_that_are_cut() -> None:
    task = reversals()
    long = replace(task, raws=["a" * 11, *task.raws[1:]])
    (row,) = compare(short(), long, FinetuneConfig(steps=1), [20], 39, 2, features=True)
    names = {each.baseline for each in row.comparisons}
    assert names == {"most frequent text", "random init", "TF-IDF of characters"}
    assert (row.max_tokens, row.metric.name) == (10, "exact match")
    (row,) = compare(decoder(), task, KnnConfig(), [20], 20, 2, features=True)
    assert row.best_features is not None
    assert row.best_features.baseline == "TF-IDF of characters"


def test_texts_are_guessed() -> None:
    assert guess([f"the answer is {i}" for i in range(9)])[0] is GENERATION
    assert guess(["a long name of one class", "another long name"] * 9)[0] is CLASSES
    assert guess([f"id{i}" for i in range(9)])[0] is CLASSES


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_from_a_table_to_texts(tmp_path: Path) -> None:
    save(decoder(), tmp_path / "base")
    rows = [{"text": f"{i}", "label": f"the number {i % 7} it is"} for i in range(60)]
    data, out = table(tmp_path / "d.jsonl", rows), tmp_path / "out"
    words = ["adapt", str(tmp_path / "base"), "--data", str(data), "--splits", "2"]
    run = CliRunner().invoke
    refused = run(app, [*words, "--kind", "generation"])
    assert isinstance(refused.exception, BroadbaseError)
    assert "probe predicts no text" in str(refused.exception)
    odd = run(app, [*words, "--exact", "--regression"])
    assert "--exact is for texts that are generated, not --regression" in str(odd.exception)
    tuned = [*words, "--exact", "--no-baselines", "--method", "finetune", "--set", "steps=3"]
    done = run(app, [*tuned, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "60 texts, 7 different, 5.0 words on average" in " ".join(done.output.split())
    done = run(app, ["predict", str(out), "--data", str(data), "--json"])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    expected = load_adapted(out).predict([row["text"] for row in rows])
    assert [line["text"] for line in lines] == [row["text"] for row in expected]
    assert "exact match on 60 records with a label" in " ".join(done.stderr.split())
