"""Labelled data as people have them: what is odd is counted and said, or refused by its name."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from broadbase.adapt.compare import compare
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.features import classical
from broadbase.adapt.kinds import CLASSES, NUMBERS
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.progress import Progress
from broadbase.adapt.reading import as_read, kind_of, reader
from broadbase.adapt.result import RANDOM_INIT
from broadbase.adapt.splits import joined
from broadbase.adapt.task import Task
from broadbase.adapt.task_data import read_task
from broadbase.commands.app import app
from broadbase.core.errors import BroadbaseError, ConfigError, DataError, DivergedError
from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.inference.base import Base
from broadbase.inference.usages import plain_usage
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.weights.folder import save
from support.adapting import METHODS, names
from support.bases import base_of, mixed_base, protein_base, text_base
from support.models import TOWER


class Listed(SourceConfig):
    """Records from a list, for tests."""

    name: str = "listed-for-tests"
    items: Sequence[Any] = ()

    def records(self) -> Any:
        for i, item in enumerate(self.items):
            if isinstance(item, Reject):
                yield item
            else:
                raw, label = item
                yield Record(raw, f"here:{i + 1}", label)

    def fingerprint(self) -> dict[str, str]:
        return {}


def texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [f"{i} {' '.join(rng.choices(['alpha', 'beta', 'gamma'], k=4))}" for i in range(count)]


def read(items: Sequence[Any], **options: Any) -> Task:
    base = options.pop("base", None) or mixed_base()
    modality = options.pop("modality", "bytes")
    source = Listed.model_construct(items=items)
    return read_task("t", modality, source, read=reader(base, modality), **options)


def labelled(labels: Sequence[str | None]) -> list[Any]:
    return list(zip(texts(len(labels)), labels, strict=True))


def test_missing_labels_are_no_class() -> None:
    task = read(labelled(["a", "b", None, "", "  "] * 20))
    assert task.target.names == ("a", "b")
    assert task.target.counts(task.labels) == {"a": 20, "b": 20}
    assert task.notes == ("60 of 100 records have no label and are left out (first: here:3)",)
    with pytest.raises(DataError, match=r"1 class .*\('a'\).*10 of 20 records have no label"):
        read(labelled(["a", None] * 10))
    with pytest.raises(DataError, match=r"here:1 has no label, and no other of the 9 .*--label"):
        read(labelled([None] * 9))
    numbers = read(labelled(["1.5", "nan", "", "2"]), kind=NUMBERS)
    assert numbers.labels.tolist() == [1.5, 2.0]
    assert "2 of 4 records have no label" in numbers.notes[0]


def test_records_without_a_label_are_kept_for_methods_that_learn_from_them() -> None:
    items = labelled(["a", "b", None, ""] * 20)
    task = read(items, pooled=True)
    assert list(task.unlabelled) == [raw for raw, label in items if not label]
    assert list(task.raws) == [raw for raw, label in items if label]
    said = "40 of 80 records have no label and join the unlabelled ones (first: here:3)"
    assert task.notes == (said,)
    assert not read(items).unlabelled
    numbers = read(labelled(["1.5", "nan", "", "2"]), kind=NUMBERS, pooled=True)
    assert len(numbers.unlabelled) == 2
    assert numbers.labels.tolist() == [1.5, 2.0]
    with pytest.raises(DataError, match=r"here:1 has no label, and no other of the 9 .*--label"):
        read(labelled([None] * 9), pooled=True)
    bad = [*labelled(["a", "b"] * 200), (7.5, None)]
    assert "1 of 401 records cannot be used" in read(bad, pooled=True).notes[0]
    assert "1 of 401 records have no label and are left out" in read(bad).notes[0]


def test_labels_are_without_the_spaces_about_them() -> None:
    task = read(labelled([" a", "a ", "a", "b", "b\n", "\tb"]))
    assert task.target.counts(task.labels) == {"a": 3, "b": 3}


def test_a_class_of_one_is_left_out_and_named() -> None:
    task = read(labelled([*"ab" * 50, "rare"]))
    assert task.target.names == ("a", "b")
    assert task.notes == ("class 'rare' has 1 record and is left out: none would be tested",)
    many = read(labelled([*"ab" * 5, *map(str, range(9))]))
    assert many.notes[0].startswith("9 classes have 1 record each and are left out: '0', '1'")
    assert len(many.labels) == 10
    for method in METHODS:
        assert compare(mixed_base(), task, method, [40], 30, 2)


def test_few_bad_records_are_counted_and_many_refused() -> None:
    items = labelled([*"ab" * 150])
    items[3] = Reject("here:4", "damaged image")
    items[7] = Reject("here:8", "empty", empty=True)
    items[9] = (5, "a")
    task = read(items)
    assert len(task.labels) == 297
    assert task.notes[0] == "1 of 300 records are empty and are left out (first: here:8)"
    assert task.notes[1] == "2 of 300 records cannot be used (first: here:4: damaged image)"
    with pytest.raises(DataError, match="3 of 100 records cannot be used as bytes"):
        read([*labelled([*"ab" * 49])[:97], *[(5, "a")] * 3])
    lost = Reject("a.csv:9", "an open quote", records=40)
    with pytest.raises(DataError, match="40 of 140 records cannot be used as bytes"):
        read([*labelled([*"ab" * 50]), lost])


def test_labels_that_are_no_numbers() -> None:
    good = [str(i / 7) for i in range(300)]
    task = read(labelled([*good, "n/a", "inf"]), kind=NUMBERS)
    assert len(task.labels) == 300
    assert "2 of 302 records cannot be used" in task.notes[0]
    with pytest.raises(DataError, match="label 'True' is no number"):
        read(labelled(["True", "1", "2"]), kind=NUMBERS)
    with pytest.raises(DataError, match="every label is 5"):
        read(labelled(["5", "5.0", "5"]), kind=NUMBERS)
    with pytest.raises(DataError, match="every label is 5"):
        Task.from_values("t", "bytes", ["a", "b"], [5.0, 5.0])
    for far in ([1e308, -1e308], [1e-200, 2e-200]):
        with pytest.raises(DataError, match="cannot be computed with; give them in another unit"):
            Task.from_values("t", "bytes", ["a", "b"], far)


def test_numbers_taken_for_classes_get_a_hint() -> None:
    task = read(labelled([str(i // 2) for i in range(600)]))
    assert task.notes[-1] == "the 300 classes are numbers: add --regression to predict them"
    with pytest.raises(ConfigError, match=r"300 classes, and 50 labels cannot .*--regression"):
        task.split(50, 10, 0)
    assert not read(labelled([str(i % 10) for i in range(100)])).notes


def test_classes_that_look_alike_are_said() -> None:
    task = read(labelled(["Cat", "cat", "1", "1.0", "a b", "a_B"] * 4))
    assert len(task.target.names) == 6
    assert task.notes == (
        "classes that may be the same: '1' and '1.0'; 'Cat' and 'cat'; 'a b' and 'a_B'",
    )


def test_many_classes_are_listed_in_short() -> None:
    task = read(labelled([f"c{i // 2}" for i in range(2000)]))
    assert task.summary.startswith("classes: c0 2, ")
    assert task.summary.endswith(", and 980 more")
    with pytest.raises(ConfigError, match=r"1,000 classes, and 100 labels .* ask for 1000"):
        task.split(100, 10, 0)
    train, test = task.split(1000, 500, 0)
    assert (len(train), len(test)) == (1000, 500)
    with pytest.raises(ConfigError, match=r"8 classes, and 3 labels .* 8 labels or more"):
        read(labelled([str(i % 8) for i in range(80)])).split(3, 10, 0)


def test_numbers_are_summed_up() -> None:
    assert read(labelled(["1", "2", "6"]), kind=NUMBERS).summary == "3 numbers from 1 to 6, mean 3"


@pytest.mark.parametrize("method", METHODS, ids=names)
def test_copies_never_stand_on_both_sides(method: MethodConfig) -> None:
    """Labels at random, every record five times, also in another spelling: at chance."""
    rng = random.Random(0)
    rows = []
    for i, text in enumerate(texts(60)):
        label = "ab"[i % 2] if method.trains_base else rng.choice("ab")
        spellings = [f"{text}\n1\n2", f"{text}\r\n1\r\n2"]
        rows += [(rng.choice(spellings), label) for _ in range(5)]
    rng.shuffle(rows)
    base = text_base()
    task = as_read(base, read(rows, base=base, modality="text"))
    assert task.notes == (
        "240 of 300 records are copies of another: all copies are trained on, or all tested",
    )
    assert task.groups is not None
    for seed in range(4):
        train, test = task.split(150, 100, seed)
        assert not {task.raws[i] for i in train} & {task.raws[i] for i in test}
    if method.name == "probe":
        (row,) = compare(base, task, method, [150], 100, 4, features=True)
        names = (RANDOM_INIT, "TF-IDF of characters")
        scores = [row.random_init.model, *(row.against(name).other for name in names)]
        assert 0.3 < np.mean(scores) < 0.7


def test_equal_records_with_other_labels_are_said() -> None:
    task = Task.from_records("t", "bytes", ["a", "a", "b", "c", "d"], [*"xyxyx"])
    matches = as_read(mixed_base(), task)
    assert matches.notes[1] == "2 records have copies with another label"
    assert as_read(mixed_base(), Task.from_records("t", "bytes", [*"abcd"], [*"xyxy"])).notes == ()


def test_a_task_of_equal_records_is_refused() -> None:
    task = as_read(mixed_base(), Task.from_records("t", "bytes", ["a"] * 100, [*"xy" * 50]))
    with pytest.raises(DataError, match="all of its records are equal, or of one group"):
        task.split(10, 10, 0)


def test_copies_join_groups() -> None:
    assert joined(np.array([*"aabcd"]), np.array([0, 1, 1, 2, 3])).tolist() == [0, 0, 0, 1, 2]


def test_copies_of_proteins_join_their_positions() -> None:
    raws, labels = (
        ["MKV", "ACD", "mkv", "GGG", "KKK", "WWW"],
        ["HH-", "H--", "HH-", "---", "HHH", "H-H"],
    )
    task = as_read(protein_base(), Task.from_token_labels("t", "protein", raws, labels))
    assert task.groups is not None
    assert task.token_labels is not None
    of = {r: {int(g) for g in task.groups[task.token_labels[:, 0] == r]} for r in range(4)}
    assert of[0] == of[2]
    assert len(of[0]) == 1
    assert len({next(iter(groups)) for groups in of.values()}) == 3


def test_labels_of_another_spelling_are_refused() -> None:
    """Cleaned, a molecule's atoms stand in another order than its labels."""
    base = base_of("molecule", ["CCO"], "full")
    task = Task.from_token_labels("t", "molecule", ["CCO", "OCC"], ["aab", "baa"])
    with pytest.raises(DataError, match="record 1 is read in another spelling, 'CCO'"):
        as_read(base, task)


def test_a_record_of_another_modality_is_named() -> None:
    task = Task.from_records("t", "bytes", ["a", Image.new("L", (4, 4))], ["x", "y"])
    with pytest.raises(
        DataError, match="task 't': record 1 cannot be read as bytes: expected text"
    ):
        compare(mixed_base(), task, ProbeConfig(), [2], 2, 2)
    pictures = [(Image.new("L", (4, 4), i), "ab"[i % 2]) for i in range(20)]
    source = Listed.model_construct(items=pictures)
    assert kind_of(mixed_base(), source) == "image"
    assert kind_of(mixed_base(), Listed.model_construct(items=labelled(["a"]))) == "bytes"
    with pytest.raises(DataError, match="20 of 20 records cannot be used"):
        read(pictures)


@pytest.mark.parametrize("method", [m for m in METHODS if m.needs_labels], ids=names)
def test_pictures_of_several_sizes_and_modes(method: MethodConfig) -> None:
    """Features are of the pictures as the codec brings them to one size."""
    rng = np.random.default_rng(0)
    raws = []
    for i in range(60):
        high, wide = rng.integers(3, 9, 2)
        pixels = rng.integers(0, 100, (high, wide, 3)) + 155 * (i % 2)
        raws.append(Image.fromarray(pixels.astype(np.uint8)).convert(["RGB", "L", "RGBA"][i % 3]))
    task = Task.from_records("t", "image", raws, [*"ab" * 30])
    (row,) = compare(mixed_base(), task, method, [30], 20, 2, features=True)
    assert row.best_features is not None
    assert row.best_features.other_per_item == (1.0, 1.0)


def test_features_of_cells_and_sounds_are_of_what_the_base_reads() -> None:
    rng = np.random.default_rng(0)
    tones = [np.sin(np.arange(4000) * (0.02 if i % 2 else 0.2)) + rng.normal(0, 0.1, 4000)
             for i in range(12)]  # fmt: skip
    sounds = Task.from_records("t", "audio", [(t, 8000) for t in tones], [*"ab" * 6])
    base = base_of("audio", [])
    matches = as_read(base, sounds)
    scores = classical(matches, None, base.codecs["audio"])
    assert {score(*matches.split(6, 6, 0), 0) for score in scores.values()} == {1.0}
    cells = [{"A": 9 - 8 * (i % 2), "B": 1 + 8 * (i % 2), "C": 1 + i} for i in range(30)]
    base = base_of("cell", cells)
    counts = as_read(base, Task.from_records("t", "cell", cells, [*"ab" * 15]))
    for score in classical(counts, None, base.codecs["cell"]).values():
        assert score(*counts.split(14, 14, 0), 0) > 0.9


def test_a_class_that_the_labels_do_not_show() -> None:
    task = Task.from_records("t", "bytes", texts(500), ["common"] * 498 + ["rare"] * 2)
    with pytest.raises(DataError, match="labels of split 0 are of class 'common', by far"):
        task.split(2, 100, 0)
    assert len(task.split(480, 10, 0)[0]) == 480


def learned_positions(length: int) -> Base:
    """A base whose table of positions ends, as BERT's and GPT-2's do."""
    tower = {**TOWER, "positions": {"name": "learned", "num_positions": length}}
    config = ModelConfig.from_tree(
        {"modalities": {"bytes": {"name": "bytes"}}, "towers": {"main": tower}}
    )
    model = config.build()
    initialise(model, 0)
    return Base(
        config, model.eval(), {"bytes": config.modalities["bytes"].fit([])}, plain_usage("full")
    )


@pytest.mark.parametrize("method", METHODS, ids=names)
def test_records_are_read_as_far_as_the_positions_go(method: MethodConfig) -> None:
    raws = [text * (20 if i == 0 else 1) for i, text in enumerate(texts(40))]
    task = Task.from_records("t", "bytes", raws, [*"ab" * 20])
    base = learned_positions(64)
    assert base.max_tokens("bytes") == 62
    (row,) = compare(base, task, method, [20], 20, 3)
    assert (row.truncated, row.max_tokens) == (1, 62)
    assert "1 record truncated to 62 tokens" in row.title
    complete = Task.from_token_labels("t", "bytes", [t * 9 for t in texts(4)], ["ab" * 500] * 4)
    letters = ["ab" * 500][0]
    fitting = Task.from_token_labels(
        "t", "bytes", [t * 9 for t in texts(4)], [letters[: len(t * 9)] for t in texts(4)]
    )
    for one, message in ((complete, "has 1000 labels"), (fitting, "and the base reads 62")):
        with pytest.raises(DataError, match=message):
            compare(base, one, ProbeConfig(), [20], 20, 2)


def test_progress_is_reported_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadbase.adapt.progress.EVERY", 0.0)
    out = StringIO()
    things = Task.from_records("t", "bytes", texts(40), [*"ab" * 20])
    for method in METHODS:
        compare(mixed_base(), things, method, [20], 20, 2,
              console=Console(file=out, width=200))  # fmt: skip
    lines = out.getvalue().splitlines()
    for what in ("computing embeddings", "fitting", "training, steps"):
        ours = [line for line in lines if f": {what}: " in line]
        assert ours
        for line in ours:
            count, _, total = line.rpartition(": ")[2].partition(" of ")
            assert 0 < int(count) <= int(total.split(",")[0])
            assert line.endswith("s left")
        assert any(": {0} of {0},".format(line.split(" of ")[1].split(",")[0]) in line
                   for line in ours)  # fmt: skip
    with Progress(None).phase("silent", 3):
        pass


def test_diverged_fine_tuning_names_its_setting() -> None:
    things = Task.from_records("t", "bytes", texts(40), [*"ab" * 20])
    base = mixed_base()
    with pytest.raises(DivergedError, match=r"learning rate, which is 1e\+20 \(--set lr=1e\+19\)"):
        FinetuneConfig(steps=20, batch=4, lr=1e20).fit(
            Encoder(base, "bytes"), things, np.arange(20)
        )


LABELS = st.one_of(
    st.none(), st.sampled_from(["a", "b", "A", " a", "", "1", "1.0", "2", "nan", "inf", "rare"]),
    st.text(max_size=3), st.floats(width=16).map(str),
)  # fmt: skip
RAWS = st.one_of(st.text(max_size=6), st.binary(max_size=4), st.none(), st.integers())


def _any_table(items: list[Any], numeric: bool, few: int, test: int, method: MethodConfig) -> None:
    """A result, or an error with words and a code: any other error fails the test."""
    with suppress(BroadbaseError):
        task = read(items, kind=NUMBERS if numeric else CLASSES, base=BASE)
        (row,) = compare(BASE, task, method, [few], test, 2, features=True)
        assert all(
            map(np.isfinite, (*row.scores, *row.random_init.other_per_item, row.chance.other))
        )


BASE = mixed_base()
ROWS = st.lists(st.tuples(st.text(max_size=6), LABELS), max_size=30)
MIXED = st.lists(st.tuples(RAWS, LABELS), max_size=30)
TABLE = {
    "items": st.one_of(ROWS, MIXED), "numeric": st.booleans(), "few": st.integers(2, 12),
    "test": st.integers(2, 12), "method": st.sampled_from([ProbeConfig(), KnnConfig()]),
}  # fmt: skip


@given(**TABLE)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_table_gives_scores_or_an_error_in_words(**table: Any) -> None:
    _any_table(**table)


@pytest.mark.slow
@given(**TABLE)
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
def test_two_thousand_tables_give_scores_or_errors_in_words(**table: Any) -> None:
    _any_table(**table)


def table_of(path: Path, labels: Sequence[Any]) -> Path:
    rows = zip(texts(len(labels)), labels, strict=True)
    path.write_text("".join(json.dumps({"text": t, "label": x}) + "\n" for t, x in rows))
    return path


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, ["adapt", *map(str, words)])


def test_the_command_says_what_the_labels_are(tmp_path: Path) -> None:
    save(mixed_base(), tmp_path / "base")
    data = table_of(tmp_path / "l.jsonl", [*"ab" * 30, None, None, "rare"])
    sizes = ["--train-size", 20, "--test-size", 20, "--splits", 2]
    done = invoke(tmp_path / "base", "--data", data, *sizes, "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert row["class_counts"] == {"a": 30, "b": 30}
    read_as, *others = row["notes"]
    assert read_as.startswith("labels are read as classes: 3 different ones (otherwise say --kind")
    assert [note.split(" rec")[0] for note in others] == ["2 of 63", "class 'rare' has 1"]
    assert "classes: a 30, b 30" in done.stderr
    assert "2 of 63 records have no label" in done.stderr
    shown = invoke(tmp_path / "base", "--data", data, *sizes)
    assert "most frequent class" in " ".join(shown.stdout.split())


def test_options_are_looked_at_before_the_work(tmp_path: Path) -> None:
    """No base and no data are there: nothing was read."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    base = [tmp_path / "none", "--data", tmp_path / "none.jsonl"]
    for words, message in (
        (["--out", tmp_path / "mine"], "already holds other files"),
        (["--set", "lr=1"], "unknown field `lr`; 'probe' has no settings"),
        (["--method", "prob"], "did you mean `probe`?"),
        (["--method", "finetune", "--out", tmp_path / "mine"], "already holds other files"),
        (["--method", "finetune", "--set", "rate=1"], "unknown field `rate`"),
        (["--method", "finetune", "--set", "steps=0"], "`steps`: Input should be greater"),
    ):
        done = invoke(*base, *words)
        assert isinstance(done.exception, ConfigError), done.output
        assert message in str(done.exception)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"


def test_a_fine_tuned_model_is_kept_with_its_settings(tmp_path: Path) -> None:
    save(mixed_base(), tmp_path / "base")
    data = table_of(tmp_path / "l.jsonl", [*"ab" * 30])
    words = ["--train-size", 20, "--test-size", 20, "--splits", 2, "--method", "finetune",
             "--set", "steps=2"]  # fmt: skip
    done = invoke(tmp_path / "base", "--data", data, *words, "--out", tmp_path / "ft")
    assert done.exit_code == 0, done.output
    tree = json.loads((tmp_path / "ft" / "model" / "config.json").read_text())
    assert tree["broadbase"]["model"]["heads"]["label"]["classes"] == ["a", "b"]


@pytest.mark.slow
def test_an_interrupted_adapt_promises_no_resume(tmp_path: Path) -> None:
    save(mixed_base(), tmp_path / "base")
    data = table_of(tmp_path / "l.jsonl", [*"ab" * 300])
    words = ["--train-size", "100", "--test-size", "100", "--method", "finetune", "--set",
             "steps=100000",
             "--out", str(tmp_path / "ft")]  # fmt: skip
    command = [sys.executable, "-m", "broadbase", "adapt"]
    run = subprocess.Popen(
        [*command, str(tmp_path / "base"), "--data", str(data), *words],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stderr is not None
    while not run.stderr.readline().startswith("classes"):
        pass
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert "run the same command again" in said
    assert "resume" not in said
    assert not (tmp_path / "ft").exists()
