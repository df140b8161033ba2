"""Adapters of a frozen base: what is trained, what is saved, and that both predict the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from broadbase.adapt.adapted import DESCRIPTION, LEARNED, load_adapted, save_adapted
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.lessons import HEAD
from broadbase.adapt.methods.auto import AutoConfig
from broadbase.adapt.methods.continued import ContinueConfig
from broadbase.adapt.methods.lora import AdapterFitted, LoRAMethodConfig
from broadbase.adapt.task import Task
from broadbase.commands.app import app
from broadbase.core.errors import ConfigError
from broadbase.nn.adapters.adapter import AdapterConfig
from broadbase.nn.adapters.dora import DoRAConfig
from broadbase.nn.adapters.ia3 import IA3Config
from broadbase.nn.adapters.lora import LoRAConfig
from broadbase.weights.folder import load, save
from broadbase.weights.peft import read_adapter
from support.adapting import saved
from support.bases import mixed_base, text_base

KINDS = (LoRAConfig(rank=2), DoRAConfig(rank=2, targets=("q", "v")), IA3Config())
FEW = LoRAMethodConfig(steps=3, batch=4)


def letters(count: int = 24) -> Task:
    raws = [f"{'az'[i % 2] * 9}{i}" for i in range(count)]
    return Task.from_records("letters", "bytes", raws, [raw[0] for raw in raws])


def echoes(count: int = 12) -> Task:
    return Task.from_texts("echoes", "bytes", [f"{c}{c}" for c in "abcdefghijkl"[:count]],
                           list("abcdefghijkl"[:count]))  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_does_not_move_and_the_task_is_learned(kind: AdapterConfig) -> None:
    base, task = mixed_base(), letters(40)
    before = {k: v.clone() for k, v in base.model.state_dict().items()}
    method = LoRAMethodConfig(adapter=kind, steps=40, batch=16, lr=2e-2)
    fitted = method.fit(Encoder(base, "bytes"), task, np.arange(40))
    assert all(torch.equal(v, before[k]) for k, v in base.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in base.model.parameters())
    assert task.score(fitted.outputs(task.inputs(np.arange(40))), np.arange(40)) > 0.9
    assert isinstance(fitted, AdapterFitted)
    assert fitted.parameters == sum(a.size for a in fitted.arrays().values())
    assert fitted.parameters < 0.5 * sum(p.numel() for p in base.model.parameters())
    moved = [k for k in fitted.arrays() if not k.startswith(HEAD)]
    assert moved
    assert all(k.startswith("towers.main.blocks.") for k in moved)
    used = fitted.base.model.state_dict()
    assert used.keys() - before.keys() == {k for k in fitted.arrays() if k.startswith(HEAD)}


def test_a_folder_has_the_adapter_alone(tmp_path: Path) -> None:
    task = letters()
    learned = saved(tmp_path / "out", task, mixed_base(), FEW)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {DESCRIPTION, LEARNED}
    again = load_adapted(tmp_path / "out")
    assert again.predict(task.raws) == learned.predict(task.raws)
    save_adapted(again, tmp_path / "copy", tmp_path / "out-base", copy=True)
    (tmp_path / "out-base").rename(tmp_path / "gone")
    copied = load_adapted(tmp_path / "copy")
    assert copied.predict(task.raws) == learned.predict(task.raws)
    plain = load(tmp_path / "copy" / "model").model.state_dict()
    assert all(torch.equal(v, plain[k]) for k, v in mixed_base().model.state_dict().items())


@pytest.mark.parametrize(
    "method", [AutoConfig(candidates=(FEW,), budget=1e6), ContinueConfig(steps=2, then=FEW)]
)
def test_other_methods_use_it(tmp_path: Path, method: AutoConfig | ContinueConfig) -> None:
    task = letters()
    if method.uses_unlabelled:
        task = replace(task, unlabelled=["more", "letters", "here"])
    learned = saved(tmp_path / "out", task, mixed_base(), method)
    assert load_adapted(tmp_path / "out").predict(task.raws) == learned.predict(task.raws)


def test_bases_in_16_bits_have_adapters_in_32(tmp_path: Path) -> None:
    base, task = mixed_base(), letters()
    base.model.bfloat16()
    learned = saved(tmp_path / "out", task, base, FEW)
    assert {a.dtype for a in learned.fitted.arrays().values()} == {np.dtype("float32")}
    assert load_adapted(tmp_path / "out").predict(task.raws) == learned.predict(task.raws)


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="'query'; it has"):
        LoRAMethodConfig(adapter=LoRAConfig(targets=("query",))).fit(
            Encoder(mixed_base(), "bytes"), letters(), np.arange(10)
        )
    with pytest.raises(ConfigError, match="no adapter is called 'loha'"):
        LoRAMethodConfig.from_tree({"adapter": "loha"})
    assert LoRAMethodConfig.from_tree({"adapter": "dora"}).adapter == DoRAConfig()


def table(path: Path, task: Task) -> Path:
    names = task.target.names
    rows = [{"text": r, "label": names[i]} for r, i in zip(task.raws, task.labels, strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_from_the_shell(tmp_path: Path) -> None:
    """adapt, predict, export as PEFT, import into a base; an adapter of another base exits 2."""
    save(text_base(), tmp_path / "base")
    data = table(tmp_path / "data.jsonl", letters())
    words = ["adapt", tmp_path / "base", "--data", data, "--method", "lora", "--splits", 2]
    words += ["--set", "steps=2", "--set", "adapter={name: dora, rank: 2}", "--no-baselines"]
    run(*words, "--out", tmp_path / "out", "--no-cache")
    run("predict", tmp_path / "out", "--data", data, "--out", tmp_path / "predicted.csv")
    assert "label" in (tmp_path / "predicted.csv").read_text()
    run("export", tmp_path / "out", "--to", "peft", "--out", tmp_path / "peft")
    base = load(tmp_path / "base")
    learned = load_adapted(tmp_path / "out").fitted
    assert isinstance(learned, AdapterFitted)
    back = read_adapter(tmp_path / "peft", base)
    assert all(torch.equal(t, learned.adapter.tensors[k]) for k, t in back.tensors.items())
    words = ["import", tmp_path / "peft", "--base", tmp_path / "base", "--to", tmp_path / "merged"]
    run(*words)
    merged = load(tmp_path / "merged").model.state_dict()
    used = learned.base.model.state_dict()
    assert all(torch.allclose(t, used[k], atol=1e-6) for k, t in merged.items())
    assert not torch.equal(merged[name := next(iter(learned.adapter.maps)) + ".weight"],
                           base.model.state_dict()[name])  # fmt: skip
    save(base.reinitialised(1), tmp_path / "other")
    words[3], words[5] = tmp_path / "other", tmp_path / "never"
    assert "trained on other weights" in run(*words, code=2)
    assert not (tmp_path / "never").exists()


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code or getattr(result.exception, "exit_code", 1) == code, result
    return result.output + str(result.exception or "")
