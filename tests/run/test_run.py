"""A run is its own, wherever it lies: its data, its lock, what is refused, and going on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from filelock import FileLock
from PIL import Image

from broadbase.commands.work.inspect import inspected
from broadbase.core.errors import BroadbaseError, ConfigError, DataError, DivergedError
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.train.metrics_log import MetricsLog, read
from broadbase.train.schedule import ScheduleConfig
from support import programs
from support.programs import BROADBASE
from support.runs import SET, broadbase, pretrain, rows, weights


def test_a_run_and_its_data_elsewhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths as typed, another working folder, data moved, data gone, the run moved."""
    monkeypatch.chdir(tmp_path)
    pretrain("d", Path("r"))
    source = yaml.safe_load(Path("r/config.yaml").read_text())["data"]["sources"]["bytes"]["source"]
    assert source["path"] == str(data)
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    broadbase("evaluate", "../r")
    broadbase("resume", "../r")
    before = weights(tmp_path / "r")
    data.rename(tmp_path / "e")
    (tmp_path / "r").rename(tmp_path / "s")
    for command in ("evaluate", "inspect", "resume"):
        broadbase(command, "../s")
    (tmp_path / "e" / "0.txt").write_text("changed")
    with pytest.raises(DataError, match=r"0\.txt changed"):
        broadbase("resume", "../s", **{"data.sources.bytes.source.path": "../e"})
    shutil.rmtree(tmp_path / "e")
    broadbase("resume", "../s")
    assert weights(tmp_path / "s") == before


def test_another_path_to_the_same_content_is_no_other_data(data: Path, tmp_path: Path) -> None:
    pretrain(data, tmp_path / "r")
    data.rename(tmp_path / "e")
    config = tmp_path / "r" / "config.yaml"
    config.write_text(config.read_text().replace(str(data), str(tmp_path / "e")))
    broadbase("resume", tmp_path / "r", **{"train.steps": 6})
    assert rows(tmp_path / "r") == [1, 2, 3, 4, 5, 6]


def test_a_store_suffices(data: Path, tmp_path: Path) -> None:
    """Prepared with settings of its own, it is trained on without its files and without --data."""
    words = ("prepare", "bytes", "--data", data, "--store", tmp_path / "s", "--processes", "1")
    broadbase(*words, **{"data.holdout": 0.4})
    made = (tmp_path / "s" / "bytes" / "manifest.json").read_bytes()
    data.rename(tmp_path / "e")
    more = {k: v for k, v in SET.items() if k != "data.holdout"}
    words = ("pretrain", "bytes", "--store", tmp_path / "s", "--depth", "1", "--out")
    broadbase(*words, tmp_path / "r", **more)
    assert (tmp_path / "s" / "bytes" / "manifest.json").read_bytes() == made
    assert not (tmp_path / "r" / "data").exists()
    broadbase("evaluate", tmp_path / "r")
    other = ("pretrain", "bytes", "--data", tmp_path / "typo", "--store", tmp_path / "s")
    with pytest.raises(DataError, match="does not exist"):
        broadbase(*other, "--out", tmp_path / "q", **SET)


def test_one_process_trains_a_run(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    pretrain(data, run)
    before = (run / "metrics.jsonl").read_bytes()
    with FileLock(run / "lock"):
        done = programs.run(BROADBASE, "resume", run)
    assert done.returncode == 2, done.stderr
    assert f"another process trains {run}" in done.stderr
    assert (run / "metrics.jsonl").read_bytes() == before
    (tmp_path / "q").mkdir()
    with FileLock(tmp_path / "q" / "lock"):  # just begun: what is refused removes nothing of it
        (tmp_path / "q" / "data").mkdir()
        words = ("pretrain", "bytes", "--data", data, "--out", tmp_path / "q")
        done = programs.run(BROADBASE, *words)
    assert done.returncode == 2
    assert (tmp_path / "q" / "data").exists()
    broadbase("resume", run)
    assert (run / "lock").exists()  # never removed: another may be about to lock it


@pytest.mark.parametrize(
    "refused",
    [
        {"data.sources.bytes.source.pattern": "'**/*.none'"},  # nothing to prepare
        {"train.micro_batches": 99},  # at the first step
        {"data.sources.bytes.max_epochs": 0.001},  # before the first step
        {"optim.freeze_until": "{x: 0.5}"},
    ],
)
def test_a_refused_first_try_leaves_nothing(
    data: Path, tmp_path: Path, refused: dict[str, Any]
) -> None:
    run = tmp_path / "runs" / "r"
    with pytest.raises((ConfigError, DataError)):
        pretrain(data, run, **refused)
    assert {path.name for path in tmp_path.iterdir()} == {"d"}
    pretrain(data, run)
    assert (run / "model").exists()


def test_a_refusal_names_no_file_that_is_gone(tmp_path: Path) -> None:
    """The list of rejects goes with a run that never began, and stays in a store."""
    table = tmp_path / "words.tsv"
    table.write_text("word\tmeaning\n" + "".join(f"w{i}\tm{i}\n" for i in range(30)))
    with pytest.raises(DataError, match=r"name it with --field\n.*--store keeps the list"):
        broadbase("pretrain", "text", "--data", table, "--out", tmp_path / "r")
    with pytest.raises(DataError, match=r"all of them are in (\S+)") as error:
        broadbase("prepare", "text", "--data", table, "--store", tmp_path / "s")
    named = Path(str(error.value).rpartition(" ")[2])
    assert len(named.read_text().splitlines()) == 30


def test_what_lay_in_the_folder_stays(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError):
        pretrain(data, run, **{"train.micro_batches": 99})
    assert (run / "notes.txt").read_text() == "mine"
    pretrain(data, tmp_path / "s")
    kept = sorted((tmp_path / "s").rglob("*"))
    with pytest.raises(ConfigError, match="already holds a run"):
        pretrain(data, tmp_path / "s")
    with pytest.raises(ConfigError, match="micro_batches"):
        broadbase("resume", tmp_path / "s", **{"train.micro_batches": 99})
    assert sorted((tmp_path / "s").rglob("*")) == kept


def test_depth_of_a_config_file_is_refused(data: Path, tmp_path: Path) -> None:
    pretrain(data, tmp_path / "r")
    text = (tmp_path / "r" / "config.yaml").read_text()
    assert "depth" not in yaml.safe_load(text)
    file = tmp_path / "mine.yaml"
    file.write_text(text + "depth: 2\n")
    with pytest.raises(ConfigError, match=r"mine.yaml: `depth` has no effect in a config file"):
        broadbase("pretrain", file, "--out", tmp_path / "s")
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"pretrain RECIPE --depth N"):
        broadbase("pretrain", file, "--out", tmp_path / "s", depth=2)
    with pytest.raises(ConfigError, match=r"pretrain RECIPE --depth N"):
        pretrain(data, tmp_path / "s", depth=2)
    assert not (tmp_path / "s").exists()
    (tmp_path / "r" / "config.yaml").write_text(text + "depth: 2\n")  # of an earlier version
    broadbase("resume", tmp_path / "r")


def test_a_tower_that_is_missing_is_refused_in_the_config(data: Path, tmp_path: Path) -> None:
    tree = RunConfig.read(Path(made(data, tmp_path))).tree()
    for objective, path in (
        ({"name": "causal", "tower": "main2"}, "objective.tower"),
        (
            {
                "name": "mixture",
                "components": {"a": {"objective": {"name": "masked", "tower": "x"}}},
            },
            "objective.components.a.objective.tower",
        ),
        ({"name": "mae"}, "objective.encoder"),
    ):
        with pytest.raises(ConfigError, match=f"{path}: the model has no tower"):
            RunConfig.from_tree({**tree, "objective": objective})


def made(data: Path, tmp_path: Path) -> Path:
    """The config of a small run."""
    pretrain(data, tmp_path / "made")
    return tmp_path / "made" / "config.yaml"


def test_a_finished_run_takes_more_steps(data: Path, tmp_path: Path) -> None:
    """At the rate that the longer schedule has there, with the optimiser's state, noted once."""
    run = tmp_path / "r"
    pretrain(data, run, **{"schedule.warmup": 1})
    broadbase("resume", run, **{"train.steps": 6})
    assert rows(run) == [1, 2, 3, 4, 5, 6]
    noted = [row for row in read(run / "metrics.jsonl") if "changed" in row]
    assert noted == [{"step": 4, "changed": {"train.steps": [4, 6]}}]
    assert RunConfig.read(run / "config.yaml").train.steps == 6
    broadbase("resume", run)  # the config says so: nothing is left to do
    assert rows(run) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ConfigError, match="has taken 6 steps already"):
        broadbase("resume", run, **{"train.steps": 5})
    schedule = ScheduleConfig.from_tree({"name": "wsd", "warmup": 20})
    assert schedule.factor(199, 200) < 0.01 < schedule.factor(200, 400)


def test_what_must_stay_is_refused_by_name(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    pretrain(data, run)
    with pytest.raises(ConfigError, match=r"config.optim.momentum: 0.95 became 0.5\n"):
        broadbase("resume", run, **{"optim.momentum": 0.5})
    with pytest.raises(ConfigError, match=r"config.seed: 0 became 1\nundo the change, or start"):
        broadbase("resume", run, seed=1)
    assert RunConfig.read(run / "config.yaml").seed == 0


def test_a_run_of_removed_documents_is_reported_what_to_do(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    pretrain(data, run)
    store = Run.open(run).stores["bytes"]
    broadbase("remove", run / "data", store.ids("train")[0])
    with pytest.raises(
        ConfigError, match=r"the prepared data changed, as by `remove`.*--init-from"
    ):
        broadbase("resume", run)


def test_divergence_names_the_command_that_helps(data: Path, tmp_path: Path) -> None:
    """From the last checkpoint; where there is none, from the start."""
    run = tmp_path / "r"
    wild = {
        "optim.lr": 1e30,
        "optim.muon_lr": 1e30,
        "train.grad_clip": "null",
        "schedule.warmup": 0,
    }
    with pytest.raises(DivergedError, match="from the start, as there is no checkpoint") as result:
        pretrain(data, run, **{**wild, "train.save_every": 100})
    assert f"`broadbase resume {run} --set optim.lr=5e+29 --set optim.muon_lr=5e+29`" in str(
        result.value
    )
    broadbase("resume", run, **{"optim.lr": 1e-3, "optim.muon_lr": 1e-3})
    assert rows(run) == [1, 2, 3, 4]
    calm = {"optim.lr": 1e-3, "optim.muon_lr": 1e-3}
    broadbase("resume", run, **{**calm, "train.steps": 6, "train.save_every": 2})
    with pytest.raises(DivergedError, match="goes on from step 6, with half the learning rate"):
        broadbase("resume", run, **{**wild, "train.steps": 60, "train.save_every": 100})
    broadbase("resume", run, **{**calm, "train.steps": 7})
    changed = [row["changed"] for row in read(run / "metrics.jsonl") if "changed" in row]
    assert changed == [{"train.steps": [4, 6]}, {"train.steps": [6, 7]}]  # nothing of what diverged


def test_a_run_that_is_not_finished_says_so(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    config = RunConfig.read(made(data, tmp_path))
    Run.create(config, run)
    hf = ("--to", "hf", "--out", tmp_path / "out")
    for words in (("evaluate", run), ("generate", run, "--prompt", "a"), ("export", run, *hf)):
        with pytest.raises(DataError, match=rf"not finished; `broadbase resume {run}` first"):
            broadbase(*words)


def test_what_is_said_before_training(data: Path, tmp_path: Path) -> None:
    """Parameters, steps, tokens; then the time; two validations have two names."""
    said = pretrain(data, tmp_path / "r").stderr
    model = Run.open(tmp_path / "r").config.model.build()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert f"{count:,} parameters; 4 steps of 128 tokens: 512 tokens, epochs: " in said
    assert "about 0 s to step 4, without evaluations" in said
    assert "step      4  validation: " in said
    assert "held out" not in said


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = json.loads(broadbase("doctor", "--json").stdout)
    assert {"setting": "git", "value": None} in rows


@pytest.mark.slow
def test_without_a_home_or_a_cache_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BROADBASE_CACHE", str(tmp_path / "file" / "cache"))
    broadbase("doctor")
    nobody = {**os.environ, "BROADBASE_CACHE": "", "XDG_CACHE_HOME": ""}
    nobody.pop("HOME", None)
    script = (
        "import os, pwd; pwd.getpwuid = lambda uid: (_ for _ in ()).throw(KeyError(uid))\n"
        "from broadbase.core.paths import cache_folder; print(cache_folder())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=nobody
    )
    assert Path(done.stdout.strip()).is_absolute()


def test_a_journal_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r" / "metrics.jsonl"
    with pytest.raises(
        BroadbaseError, match=r"metrics.jsonl cannot be written: .*broadbase resume"
    ):
        MetricsLog(path).stepped(1, {"a": 1.0}, 1.0, 1.0, 1.0)


def test_inspect_says_what_it_takes(data: Path, tmp_path: Path) -> None:
    pretrain(data, tmp_path / "r")
    with pytest.raises(DataError, match=r"model holds neither .* \(--out .* \(--store"):
        inspected(tmp_path / "r" / "model", 1)


def test_settings_that_do_not_fit_together_are_no_traceback(tmp_path: Path) -> None:
    """A head of numbers that is scored against patches: only the first step notices it."""
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8), dtype=np.uint8)
        (tmp_path / "p").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "p" / f"{i}.png")
    settings = {"train.steps": 1, "data.holdout": 0.3, "model.heads.pixels": "{name: values}"}
    with pytest.raises(ConfigError, match="the first step cannot be computed"):
        broadbase("pretrain", "vq", "--data", tmp_path / "p", "--depth", "1",
                  "--out", tmp_path / "run", **settings)  # fmt: skip
