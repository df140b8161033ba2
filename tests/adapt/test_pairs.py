"""Pairs: vectors of two items, every method on them, leaks between them, and the commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from tokenizers import processors
from typer.testing import CliRunner

from broadbase.adapt import pairs
from broadbase.adapt.adapted import load_adapted
from broadbase.adapt.compare import compare
from broadbase.adapt.encoder import LAST, LAYERS, Encoder
from broadbase.adapt.inputs import Inputs, unordered
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.centroids import CentroidsConfig
from broadbase.adapt.methods.continued import ContinueConfig
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.methods.names import NamesConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.reading import as_read, sharing
from broadbase.adapt.task import Task
from broadbase.commands.app import app
from broadbase.core.errors import BroadbaseError, DataError
from broadbase.core.sources import Pair, Record, Reject
from broadbase.data.detect import labelled
from broadbase.inference.base import Base
from broadbase.inference.truncation import beginning
from broadbase.inference.usages import plain_usage
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.weights.folder import save
from support.adapting import METHODS, names, probe, saved, score
from support.bases import mixed_base
from support.models import TOWER
from support.tokenizers import BERT, words

FRUIT, TOOL = ["apple", "pear", "plum", "fig"], ["saw", "drill", "axe", "file"]


def kinds(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Two texts, and whether both name things of one kind."""
    rng = np.random.default_rng(seed)
    both = rng.integers(2, size=(count, 2))
    return [
        {
            "question": f"{' '.join(rng.choice((FRUIT, TOOL)[a], 3))} {seed}{i}",
            "answer": f"{' '.join(rng.choice((FRUIT, TOOL)[b], 3))} {seed}{i}",
            "label": "same" if a == b else "other",
        }
        for i, (a, b) in enumerate(both)
    ]


def task(count: int = 60) -> Task:
    rows = kinds(count)
    raws = [Pair(row["question"], row["answer"]) for row in rows]
    return Task.from_records("kinds", "bytes", raws, [row["label"] for row in rows])


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "base"
    save(mixed_base(), path)
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)])


def refused(*arguments: Any) -> BroadbaseError:
    result = run(*arguments)
    assert isinstance(result.exception, BroadbaseError), result.output
    return result.exception


vectors = arrays(np.float64, (3, 4), elements=st.floats(-9, 9).filter(lambda x: abs(x) > 1e-3))


@given(vectors, vectors)
def test_features_are_those_of_the_paper_at_unit_length(
    first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]
) -> None:
    rows = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        u = [x / sum(y * y for y in a) ** 0.5 for x in a]
        v = [x / sum(y * y for y in b) ** 0.5 for x in b]
        apart = [abs(x - y) for x, y in zip(u, v, strict=True)]
        rows.append([*u, *v, *apart, *(2 * x * y for x, y in zip(u, v, strict=True))])
    np.testing.assert_allclose(pairs.composed(first, second), rows, atol=1e-12)
    swapped = pairs.compared(second, first)
    np.testing.assert_allclose(pairs.compared(first, second), swapped, atol=1e-12)
    np.testing.assert_allclose(swapped, np.array(rows)[:, 8:], atol=1e-12)
    cosine = [float(np.dot(row[:2], row[4:6])) for row in np.array(rows)]
    halves = pairs.cosines(first, second, 2)  # of two layers of width 2
    norms = np.linalg.norm(np.array(rows)[:, [0, 1]], axis=1) * np.linalg.norm(
        np.array(rows)[:, [4, 5]], axis=1
    )
    np.testing.assert_allclose(halves[:, 0], np.array(cosine) / norms, atol=1e-9)


def test_an_encoder_composes_the_vectors_of_items_and_reads_equal_items_once() -> None:
    encoder = Encoder(mixed_base(), "bytes")
    raws = [Pair("apple", "a saw"), Pair("apple", "fig"), Pair("fig", "apple")]
    counted: list[int] = []
    encoder.keep(Inputs(raws), counted.append)
    assert sum(counted) == 3
    first = encoder.vectors(Inputs(["apple", "apple", "fig"]), LAST)
    second = encoder.vectors(Inputs(["a saw", "fig", "apple"]), LAST)
    np.testing.assert_array_equal(
        encoder.vectors(Inputs(raws), LAST), pairs.composed(first, second)
    )
    alike = encoder.vectors(Inputs(raws), LAYERS + pairs.COMPARED)
    np.testing.assert_array_equal(alike[1], alike[2])
    offered = encoder.representations(Inputs(raws))
    assert offered[0] == LAST
    assert offered[-1] == pairs.COSINES
    sizes = {name: encoder.vectors(Inputs(raws), name).shape for name in offered}
    assert sizes[LAST] == (3, 4 * 16)
    assert sizes[LAYERS + pairs.COMPARED] == (3, 2 * 2 * 16)
    assert sizes[pairs.COSINES] == (3, 2)


def test_a_probe_finds_what_two_items_have_in_common() -> None:
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, 300, 8)).astype(np.float32)
    numbers = Task.from_records(
        "t", "bytes", [str(i) for i in range(300)], ["ab"[i % 2] for i in range(300)]
    )
    alike = np.where((numbers.labels == 1)[:, None], u + 0.3 * v, v)
    train, test = np.arange(200), np.arange(200, 300)
    assert probe([pairs.composed(u, alike)], numbers, train, test) > 0.9
    assert probe([np.concatenate([u, alike], axis=1)], numbers, train, test) < 0.75
    assert probe([pairs.composed(u, v)], numbers, train, test) < 0.65  # where nothing is planted


POOL = [Pair("fig", "saw"), Pair("plum", "pear"), Pair("axe", "file")]
LEARNERS = [each for each in METHODS if each.name != "names"]


@pytest.mark.parametrize("method", LEARNERS, ids=names)
def test_every_method_learns_saves_and_predicts_pairs(tmp_path: Path, method: MethodConfig) -> None:
    learned = saved(tmp_path / "pairs", task(), mixed_base(), method)
    records = [("apple pear", "fig plum"), ["saw", "apple"], Pair("saw", "axe")]
    rows = load_adapted(tmp_path / "pairs").predict(records)
    assert [row["label"] for row in rows] == [row["label"] for row in learned.predict(records)]
    chances = [[row["p(same)"] for row in each] for each in (rows, learned.predict(records))]
    np.testing.assert_allclose(*chances, atol=1e-6)
    assert len({row["p(same)"] for row in rows}) == 3
    for bad in ("apple", ("apple",), ("a", "b", "c")):
        with pytest.raises(DataError, match="record 1 is no pair"):
            learned.predict([("a", "b"), bad])
    (result,) = compare(mixed_base(), task(), method, [30], 20, 2, features=True)
    assert {"overlap", "TF-IDF of words of both"} <= {row.baseline for row in result.comparisons}


def test_unlabelled_pairs_are_learned_from(tmp_path: Path) -> None:
    pooled = replace(task(), unlabelled=POOL)
    for method in (CentroidsConfig(), ContinueConfig(steps=2, batch=4)):
        learned = saved(tmp_path / method.name, pooled, mixed_base(), method)
        assert len(learned.predict([("apple", "saw")])) == 1


def test_fine_tuning_reads_both_items_together() -> None:
    """Whether both texts begin alike cannot be seen in either alone."""
    rng = np.random.default_rng(0)
    letters = rng.integers(2, size=(200, 2))
    raws = [Pair("ab"[a] * 2, "ab"[b] * 2) for a, b in letters]
    numbers = Task.from_records("t", "bytes", raws, ["no" if a == b else "yes" for a, b in letters])
    fitted = FinetuneConfig(steps=60, batch=16, lr=5e-3).fit(
        Encoder(mixed_base(), "bytes"), numbers, np.arange(150)
    )
    assert score(fitted, numbers, np.arange(150, 200)) > 0.95


def bert(folder: Path) -> tuple[Base, Any]:
    """A base with BERT's tokenizer, and the tokenizer."""
    tokenizer = words(BERT, model="WordPiece")
    sep, cls = tokenizer.token_to_id("[SEP]"), tokenizer.token_to_id("[CLS]")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    positions = {"name": "learned", "num_positions": 16, "token_types": 2}
    discrete = {"vocab_size": tokenizer.get_vocab_size()}
    text = {"name": "tokens", "discrete": discrete, "start": cls, "end": sep}
    config = ModelConfig.from_tree(
        {"modalities": {"text": text}, "towers": {"main": {**TOWER, "positions": positions}}}
    )
    model = config.build()
    initialise(model, 0)
    codec = config.modalities["text"].load(folder)
    return Base(config, model.eval(), {"text": codec}, plain_usage("full")), tokenizer


def test_pairs_are_read_as_their_tokenizer_reads_them(tmp_path: Path) -> None:
    base, tokenizer = bert(tmp_path / "bert")
    texts = [Pair("the cell binds a gene", "mouse"), Pair("liver", "a protein in the mouse liver")]
    segment = base.read_pairs(texts)
    assert segment.document is not None
    assert segment.token_type is not None
    for row, pair in enumerate(texts):
        encoded = tokenizer.encode(*pair)
        there = segment.document[row] >= 0
        assert segment.values[row][there].tolist() == encoded.ids
        assert segment.token_type[row][there].tolist() == encoded.type_ids
        assert segment.position[row][there, 0].tolist() == [*range(len(encoded.ids))]


def test_both_items_of_a_long_pair_are_read_within_the_positions(tmp_path: Path) -> None:
    base, _ = bert(tmp_path / "bert")
    long = Pair("the cell " * 20, "liver " * 20)
    segment = beginning(base, "text", joint=True).read_pairs([long, Pair("a", "a")])
    assert segment.values.shape == (2, 15)  # 6 of each, and three more tokens
    rows = [
        Pair(f"{'the cell ' * 20 * (i == 0)}gene", "liver mouse"[: 5 + 6 * (i % 2)])
        for i in range(40)
    ]
    many = Task.from_records("t", "text", rows, [*"ab" * 20])
    for method, most in ((KnnConfig(), 14), (FinetuneConfig(steps=2), 6)):
        (result,) = compare(base, many, method, [20], 16, 2)
        assert (result.truncated, result.max_tokens) == (1, most)


def test_pairs_in_another_order_are_copies_and_shared_items_are_counted() -> None:
    raws = [Pair("a", "b"), Pair("b", "a"), Pair("a", "c"), Pair("d", "e"), Pair("d", "e")]
    assert unordered(raws[0]) == unordered(raws[1]) != unordered(raws[2])
    assert sharing(raws) == 3
    read = as_read(mixed_base(), Task.from_records("t", "bytes", raws, [*"xyxyy"]))
    assert read.groups is not None
    assert len(set(read.groups.tolist())) == 3
    assert any(note.startswith("2 of 5 records are copies of another") for note in read.notes)
    assert any(note.startswith("3 of 5 pairs share an item") for note in read.notes)
    assert not any("another label" in note for note in read.notes if "2" not in note)


def test_names_and_tokens_are_refused(base: Path, tmp_path: Path) -> None:
    assert "pair" in NamesConfig().refusal(mixed_base(), task())
    data = table(tmp_path / "d.jsonl", kinds(40))
    given = ("adapt", base, "--data", data, "--field", "question", "--second")
    assert "--second are both question" in str(refused(*given, "question"))
    assert "no label for each token" in str(refused(*given, "answer", "--per-token"))
    assert "no column `anwser`; did you mean `answer`?" in str(refused(*given, "anwser"))


def test_from_a_table_to_predictions(base: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "d.jsonl", kinds(80))
    fields = ("--field", "question", "--second", "answer", "--method", "knn", "--modality", "bytes")
    out = tmp_path / "out"
    done = run(
        "adapt", base, "--data", data, *fields, "--splits", 2, "--no-baselines", "--out", out
    )
    assert done.exit_code == 0, done.output
    read = json.loads((out / "adapted.json").read_text())["card"]["read"]
    assert (read["field"], read["second"], read["label"]) == ("question", "answer", "label")
    new = kinds(5, seed=1)
    del new[0]["answer"]
    new[1]["answer"] = " "
    done = run("predict", out, "--data", table(tmp_path / "new.jsonl", new), "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["no field `answer`" in (row["error"] or "") for row in rows] == [True] + [False] * 4
    assert rows[1]["error"] == "field `answer` is empty"
    expected = load_adapted(out).predict([(row["question"], row["answer"]) for row in new[2:]])
    assert [row["p(same)"] for row in rows[2:]] == [row["p(same)"] for row in expected]
    lone = table(tmp_path / "lone.jsonl", [{"question": "a"}])
    message = "has no column `answer`; known: question; name it with --second"
    assert message in str(refused("predict", out, "--data", lone))
    renamed = table(tmp_path / "renamed.jsonl", [{"question": "a", "reply": "b"}])
    done = run("predict", out, "--data", renamed, "--second", "reply")
    assert done.exit_code == 0, done.output


def test_a_folder_of_single_records_reads_no_pairs(tmp_path: Path) -> None:
    single = Task.from_records(
        "t", "bytes", [f"{i} {'ab'[i % 2]}" for i in range(20)], [*"ab" * 10]
    )
    saved(tmp_path / "single", single, mixed_base())
    data = table(tmp_path / "d.jsonl", kinds(5))
    words = ("predict", tmp_path / "single", "--data", data, "--field", "question")
    assert "was not adapted to pairs" in str(refused(*words, "--second", "answer"))


def test_leaks_of_given_splits(base: Path, tmp_path: Path) -> None:
    train, test = kinds(60), kinds(20, seed=1)
    train += [
        {"question": test[0]["answer"].upper(), "answer": test[0]["question"], "label": "same"},
        {**train[0], "question": test[1]["question"]},
    ]
    files = [table(tmp_path / f"{i}.jsonl", rows) for i, rows in enumerate((train, test))]
    fields = ("--field", "question", "--second", "answer", "--modality", "bytes")
    words = ("adapt", base, "--train", files[0], "--test", files[1], *fields, "--method", "knn")
    done = run(*words, "--no-baselines")
    said = " ".join(done.output.split())
    assert "leak: 1 of 62 records to train on equal one of the test" in said
    assert "1 of 20 pairs that are tested on share an item with one that is trained on" in said


def test_a_group_may_be_a_column_that_is_read(tmp_path: Path) -> None:
    rows = [{"q": f"q{i % 3}", "a": f"a{i}", "label": "x"} for i in range(6)]
    source = labelled(
        str(table(tmp_path / "d.jsonl", rows)), "q", "label", {"second": "a", "group": "q"}
    )
    records = [item for item in source.records() if isinstance(item, Record)]
    assert [(r.raw, r.group) for r in records[:2]] == [
        (Pair("q0", "a0"), "q0"),
        (Pair("q1", "a1"), "q1"),
    ]


def test_pairs_of_tables_and_of_pictures(tmp_path: Path) -> None:
    rows = [{"a": "x", "b": "y", "label": "l"}, {"a": "x", "b": "", "label": "l"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    first, second = labelled(str(tmp_path / "d.parquet"), "a", "label", {"second": "b"}).records()
    assert isinstance(first, Record)
    assert first.raw == Pair("x", "y")
    assert isinstance(second, Reject)
    assert second.empty
    (tmp_path / "shown").mkdir()
    for shade in (10, 200):
        Image.new("L", (8, 8), shade).save(tmp_path / "shown" / f"{shade}.png")
    listed = [
        {"a": "10.png", "b": "200.png", "label": "up"},
        {"a": "10.png", "b": "none.png", "label": "up"},
    ]
    source = labelled(
        str(table(tmp_path / "shown" / "t.jsonl", listed)), "a", "label", {"second": "b"}
    )
    shown, lacking = source.records()
    assert isinstance(shown, Record)
    assert isinstance(shown.raw, Pair)
    assert [np.asarray(each).max() for each in shown.raw] == [10, 200]
    assert isinstance(lacking, Reject)
    assert "there is no file 'none.png'" in lacking.reason


def test_pairs_of_pictures_have_hand_made_features() -> None:
    rng = np.random.default_rng(0)
    shades = rng.integers(0, 256, size=(40, 2))
    raws = [Pair(*(Image.new("L", (8, 8), int(shade)) for shade in row)) for row in shades]
    order = ["up" if a < b else "down" for a, b in shades]
    rising = Task.from_records("rising", "image", raws, order)
    (result,) = compare(mixed_base(), rising, ProbeConfig(), [20], 10, 2, features=True)
    assert "pixels of both" in {row.baseline for row in result.comparisons}
