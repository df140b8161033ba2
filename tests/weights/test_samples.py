"""Sample bases: `sample:NAME` is the folder of a published model inside a pinned package."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from broadbase.adapt.adapted import Adapted, load_adapted, save_adapted
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.learning import learn
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.task import Task
from broadbase.commands.app import app
from broadbase.core.errors import DataError
from broadbase.data.samples.packages import Package
from broadbase.inference.base import Base
from broadbase.weights.folder import load, model_folder, save
from broadbase.weights.samples import SAMPLE_BASES, SampleBase, table
from support.bases import mixed_base

ABSENT = ("cannot be had", "is not here", "took more than")  # the registry, or its tool
NO_ARCHIVE = Package(manager="npm", name="none", version="1.0", sha256="0" * 64, licence="MIT")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no tool that could fetch anything."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("BROADBASE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "cache"


@pytest.fixture
def tiny(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of the sample base `tiny`, as it comes from the registry."""
    save(mixed_base(), tmp_path / "made")
    archive = cache / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        for file in (tmp_path / "made").rglob("*.*"):
            wheel.write(file, f"tiny/model/{file.relative_to(tmp_path / 'made')}")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    package = Package(manager="pip", name="tiny", version="1.0", sha256=sha256, licence="MIT")
    monkeypatch.setitem(SAMPLE_BASES, "tiny", SampleBase("tiny", "bytes", package, "tiny/model", 1))
    return archive


def equal(one: Base, other: Base) -> bool:
    reference = other.model.state_dict()
    return all(torch.equal(t, reference[name]) for name, t in one.model.state_dict().items())


def test_a_sample_stands_for_its_folder(tiny: Path, tmp_path: Path) -> None:
    assert equal(load("sample:tiny"), load(tmp_path / "made"))
    tiny.unlink()  # from here on it is in the cache
    assert model_folder(Path("sample:tiny")).is_dir()
    out = tmp_path / "copy"
    done = CliRunner().invoke(app, ["import", "sample:tiny", "--to", str(out)])
    assert done.exit_code == 0, done.output
    assert equal(load(out), load("sample:tiny"))


@pytest.mark.usefixtures("tiny")
def test_an_adapted_sample_names_it_and_finds_it_again(tmp_path: Path) -> None:
    """The name is written, not a path of this machine's cache."""
    base = load("sample:tiny")
    task = Task.from_records("t", "bytes", ["aa", "bb", "ab", "ba"] * 5, ["x", "y", "x", "y"] * 5)
    fitted, calibration = learn(Encoder(base, "bytes"), task, ProbeConfig(), np.arange(20))
    learned = Adapted("t", "bytes", task.target, ProbeConfig(), fitted, calibration)
    save_adapted(learned, tmp_path / "out", Path("sample:tiny"))
    written = json.loads((tmp_path / "out" / "adapted.json").read_text())
    assert written["base"]["path"] == "sample:tiny"
    shutil.move(tmp_path / "out", tmp_path / "moved")
    assert load_adapted(tmp_path / "moved").predict(["aa"]) == learned.predict(["aa"])


def test_an_unknown_sample_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no sample base 'minilmm' .*; did you mean `minilm`"):
        load("sample:minilmm")


def test_without_a_network_the_package_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SAMPLE_BASES, "none", SampleBase("none", "text", NO_ARCHIVE, "model", 1))
    with pytest.raises(DataError, match=rf"none 1\.0 \(npm\) needs npm.*into {cache} by hand"):
        load("sample:none")


def test_the_table_shows_every_base_and_fetches_none(cache: Path) -> None:
    rows = {row["name"]: row for row in table()}
    assert rows.keys() == SAMPLE_BASES.keys()
    assert all(len(row["sha256"]) == 64 and row["megabytes"] and row["licence"] for row in table())
    assert not any(row["cached"] for row in table())
    done = CliRunner().invoke(app, ["bases", "--json"])
    assert json.loads(done.stdout) == table()
    assert not list(cache.iterdir())


@pytest.mark.slow
def test_real_minilm_knows_what_is_alike() -> None:
    try:
        base = load("sample:minilm")
    except DataError as error:
        if any(part in str(error) for part in ABSENT):
            pytest.skip(str(error)[:200])
        raise
    texts = ["A cat sits on a mat.", "The kitten rests on a rug.", "Interest rates rose again."]
    vectors = base.embed(texts, layers=False)
    first, near, far = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert first @ near > 0.5 > 0.2 > first @ far
