"""An adapted base is a folder: in a new process it predicts the same, by the names of classes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broadbase.adapt.adapted import Adapted, load_adapted, save_adapted
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.learning import learn
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.targets.classes import NEVER, ClassesTarget
from broadbase.adapt.task import Task
from broadbase.core.errors import ConfigError, DataError
from broadbase.weights.folder import save
from support.adapting import METHODS
from support.bases import mixed_base, protein_base

WORDS = {"fruit": "apple pear plum fig", "tool": "saw drill axe file", "unit": "gram mile hour mol"}
LOADED = """
import json, sys, broadbase
from pathlib import Path
for folder in map(Path, sys.argv[1:]):
    records = json.loads((folder / "records.json").read_text())
    print(json.dumps(broadbase.load_adapted(folder / "out").predict(records)))
"""


def things(count: int = 60) -> Task:
    rng = np.random.default_rng(0)
    labels = [str(name) for name in rng.choice(list(WORDS), count)]
    raws = [" ".join(rng.choice(WORDS[name].split(), 3)) for name in labels]
    return Task.from_records("things", "bytes", raws, labels)


def lengths(count: int = 60) -> Task:
    return Task.from_values("lengths", "bytes", ["a" * (i % 17 + 1) for i in range(count)],
                            [float(i % 17) for i in range(count)])  # fmt: skip


def adapted(base: Path, task: Task, method: MethodConfig, kind: Any = mixed_base) -> Adapted:
    save(kind(), base)
    encoder, train = Encoder(kind(), task.modality), np.arange(len(task.labels))
    fitted, calibration = learn(encoder, task, method, train)
    per_token = task.token_labels is not None
    return Adapted(
        task.name, task.modality, task.target, method, fitted, calibration, per_token, {"x": 1}
    )


LEARNABLE = [
    pytest.param(method, make, id=f"{method.name}-{make.__name__}")
    for method in METHODS
    for make in (things, lengths)
    if not method.refusal(mixed_base(), make())
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any, Any]]:
    """By test: the folder of what was learned, what it predicts, what a new process predicts."""
    rows: dict[str, tuple[Path, Any]] = {}
    for case in LEARNABLE:
        method, make = case.values
        folder, task = tmp_path_factory.mktemp("adapted"), make()
        learned = adapted(folder / "base", task, method)
        save_adapted(learned, folder / "out", folder / "base")
        records = [*task.raws[:20], "new words", "apple"]
        (folder / "records.json").write_text(json.dumps(records))
        rows[case.id] = (folder, learned.predict(records))
    words = [sys.executable, "-c", LOADED, *(str(folder) for folder, _ in rows.values())]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = map(json.loads, done.stdout.splitlines())
    return {name: (*row, new) for (name, row), new in zip(rows.items(), again, strict=True)}


@pytest.mark.parametrize(("method", "make"), LEARNABLE)
def test_a_new_process_predicts_the_same(
    saved: dict[str, tuple[Path, Any, Any]], method: MethodConfig, make: Any
) -> None:
    folder, rows, again = saved[f"{method.name}-{make.__name__}"]
    assert again == rows
    assert len(rows) == 22
    assert (folder / "out" / "model").exists() == method.saves_base


def test_classes_keep_their_names_and_probabilities_sum_to_1(tmp_path: Path) -> None:
    task = things(90)
    rows = adapted(tmp_path / "base", task, ProbeConfig()).predict(task.raws)
    right = [row["label"] == task.target.names[i] for row, i in zip(rows, task.labels, strict=True)]
    assert np.mean(right) > 0.95
    for row in rows:
        chances = [row[f"p({name})"] for name in task.target.names]
        assert sum(chances) == pytest.approx(1)
        assert row["probability"] == max(chances) == row[f"p({row['label']})"]


def test_no_error_among_few_records_is_no_certainty() -> None:
    """Of 40 records without an error a later one may be wrong: as probable as one in 41 or so."""
    target, labels = ClassesTarget(classes=("a", "b", "c")), np.arange(40) % 3
    outputs = 5.0 * np.eye(3)[labels]
    rows = target.rows(outputs, target.calibrate(outputs, labels))
    assert [row["probability"] for row in rows] == pytest.approx([40 / 41] * 40, abs=1e-3)
    outputs[:, 2] = NEVER  # a class that the model never saw
    temperature = target.calibrate(outputs, labels % 2)["temperature"]
    assert 0.01 < temperature < 100


def test_numbers_have_an_interval(tmp_path: Path) -> None:
    task = lengths()
    rows = adapted(tmp_path / "base", task, ProbeConfig()).predict(task.raws)
    inside = [row["low"] <= y <= row["high"] for row, y in zip(rows, task.labels, strict=True)]
    assert np.mean(inside) >= 0.9


def test_tokens_have_a_label_each(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    raws = ["".join(rng.choice(list("ACDEFGH"), 12)) for _ in range(30)]
    labels = ["".join("HE"[letter in "ACD"] for letter in raw) for raw in raws]
    task = Task.from_token_labels("letters", "protein", raws, labels)
    learned = adapted(tmp_path / "base", task, ProbeConfig(), protein_base)
    save_adapted(learned, tmp_path / "out", tmp_path / "base")
    again = load_adapted(tmp_path / "out")
    rows = again.predict(["ACDEFGH", "HH"])
    assert [row["label"] for row in rows] == [list("EEEHHHH"), list("HH")]
    assert rows == learned.predict(["ACDEFGH", "HH"])


def test_the_base_of_a_folder_is_the_one_that_it_was_made_from(tmp_path: Path) -> None:
    learned = adapted(tmp_path / "base", things(), ProbeConfig())
    save_adapted(learned, tmp_path / "named", tmp_path / "base")
    save_adapted(learned, tmp_path / "copied", tmp_path / "base", copy=True)
    save(mixed_base().reinitialised(5), tmp_path / "base")
    with pytest.raises(DataError, match=r"named was made from the base .*base, whose files have"):
        load_adapted(tmp_path / "named")
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"base, which is gone; .* --copy-base"):
        load_adapted(tmp_path / "named")
    assert load_adapted(tmp_path / "copied").predict(["apple"]) == learned.predict(["apple"])


def test_bad_folders_and_records(tmp_path: Path) -> None:
    learned = adapted(tmp_path / "base", things(), ProbeConfig())
    with pytest.raises(DataError, match=r"base.adapted.json cannot be read.*adapted base"):
        load_adapted(tmp_path / "base")
    with pytest.raises(ConfigError, match="already holds other files"):
        save_adapted(learned, tmp_path / "base", tmp_path / "base")
    with pytest.raises(DataError, match="record 1 cannot be read"):
        learned.predict(["a", 7])
    assert learned.predict([]) == []
    save_adapted(learned, tmp_path / "out", tmp_path / "base")
    tree = json.loads((tmp_path / "out" / "adapted.json").read_text())
    (tmp_path / "out" / "adapted.json").write_text(json.dumps({**tree, "format": 99}))
    with pytest.raises(DataError, match="has format 99, and this version"):
        load_adapted(tmp_path / "out")
