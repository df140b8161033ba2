"""What the machine is told, and that no number pays for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from broadbase.commands.work.doctor import doctor
from broadbase.train.machine import MachineConfig
from broadbase.train.speeds import Speeds, speeds, use_onednn


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Speeds of a machine that is not this one; change them before they are asked for."""
    output = {"torch": 2.0, "onednn": 1.0, "bf16": 0.9, "fresh": 2.0, "kept": 1.0}
    monkeypatch.setattr("broadbase.train.machine.speeds", lambda: Speeds(**output))
    return output


def test_products_are_as_exact_whoever_multiplies() -> None:
    a, b = torch.randn(300, 500), torch.randn(500, 200)
    exact = a.double() @ b.double()
    errors = {}
    for use in (False, True):
        use_onednn(use)
        errors[use] = (a @ b - exact).abs().max()
    assert errors[True] < 4 * errors[False]


def test_where_rounding_would_be_coarser_onednn_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broadbase.train.speeds._exact", lambda: False)
    assert not use_onednn()
    assert torch.get_float32_matmul_precision() == "highest"


def test_auto_follows_what_was_measured(result: dict[str, float]) -> None:
    resolved = MachineConfig(device="cpu", compile="off").resolve()
    assert (resolved.matmul, resolved.precision) == ("onednn", "fp32")
    result["bf16"] = 0.5
    assert MachineConfig(device="cpu", compile="off").resolve().precision == "bf16"
    result["onednn"] = 2.0
    assert MachineConfig(device="cpu", compile="off").resolve().matmul == "torch"


@pytest.mark.slow
def test_a_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROADBASE_CACHE", str(tmp_path))
    first = speeds()
    assert speeds() == first
    (kept,) = (tmp_path / "machine").iterdir()
    kept.write_text("{}")  # of another version
    assert speeds().torch > 0
    assert speeds(again=True) != first  # a clock never tells the same twice


def test_doctor_tells_what_each_choice_is_worth(capsys: pytest.CaptureFixture[str]) -> None:
    doctor(again=False, as_json=True)
    rows = {row["setting"]: row for row in json.loads(capsys.readouterr().out)}
    for choice in ("precision", "matmul", "allocator"):
        assert "times as fast" in rows[choice]["worth"]
    assert rows["compile"]["value"] in ("on", "off")


def test_what_is_reported_reaches_the_process() -> None:
    for matmul, precision in (("torch", "highest"), ("onednn", "medium")):
        MachineConfig(device="cpu", precision="fp32", compile="off", matmul=matmul).prepare()  # type: ignore[arg-type]
        output = torch.get_float32_matmul_precision()
        assert output == precision or (matmul == "onednn" and not use_onednn())
