"""What a run generates while it trains."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

import broadbase
from broadbase.run.run import Run
from broadbase.run.samples import FILE, NEW
from broadbase.train.metrics_log import read
from support.recipes import small, write_corpus
from support.runs import broadbase as command
from support.runs import pretrain, weights, write_documents

EACH = {"train.steps": 6, "train.evaluate_every": 2, "train.save_every": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_documents(tmp_path_factory.mktemp("samples") / "documents")


@pytest.fixture(scope="module")
def sampled(data: Path) -> Path:
    pretrain(data, data.parent / "sampled", **{**EACH, "train.samples": 2})
    return data.parent / "sampled"


def test_texts_are_generated_after_each_evaluation(sampled: Path) -> None:
    rows = read(sampled / FILE)
    assert [row["step"] for row in rows] == [2, 2, 4, 4, 6, 6]
    assert {row["source"] for row in rows} == {"bytes"}
    assert rows[0]["prompt"] == rows[2]["prompt"] != rows[1]["prompt"]
    assert rows[0]["prompt"].startswith("document ")


def test_the_last_samples_are_those_of_the_kept_model(sampled: Path) -> None:
    base = broadbase.load(sampled)
    rows = read(sampled / FILE)[-2:]
    texts = base.generate_batch([row["prompt"] for row in rows], max_new_tokens=NEW)
    assert texts == [row["text"] for row in rows]


def test_samples_change_nothing_of_the_training(sampled: Path, data: Path) -> None:
    pretrain(data, data.parent / "plain", **EACH)
    assert not (data.parent / "plain" / FILE).exists()
    assert weights(data.parent / "plain") == weights(sampled)


def test_a_resumed_run_generates_its_samples_again(sampled: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    shutil.copytree(sampled, stopped)
    shutil.rmtree(stopped / "model")
    shutil.rmtree(stopped / "checkpoints" / "step-000006")
    with (stopped / FILE).open("a") as file:
        file.write('{"step": 6, "source": "bytes", "prompt": "", "text": "never"}\n{"step": 6, "so')
    command("resume", stopped)
    assert read(stopped / FILE) == read(sampled / FILE)


def test_pictures_are_generated_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    config = small("image", write_corpus(tmp_path / "corpus"))
    train = config.train.replace(steps=1, samples=2)
    Run.create(config.replace(train=train), tmp_path / "run").train()
    first, second = read(tmp_path / "run" / FILE)
    assert first["picture"] != second["picture"]
    picture = Image.open(io.BytesIO(base64.b64decode(first["picture"])))
    assert picture.size == (64, 64)


def test_a_base_that_does_not_generate_has_no_samples(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    config = small("bert", write_corpus(tmp_path / "corpus"))
    train = config.train.replace(steps=1, samples=2)
    Run.create(config.replace(train=train), tmp_path / "run").train()
    assert not (tmp_path / "run" / FILE).exists()
