"""Models without numbers."""

from __future__ import annotations

import subprocess
import sys

import torch

from broadbase.model.structure import structure_only
from support.bases import text_base
from support.paths import ROOT

BUILDS = """
import sys
from broadbase.model.structure import structure_only
from support.bases import text_base
config = text_base().config
with structure_only():
    config.build()
print([name for name in ("torch._dynamo", "scipy.signal") if name in sys.modules])
"""


def test_the_structure_is_that_of_the_model() -> None:
    config = text_base().config
    with structure_only():
        blank = config.build()
    shapes = {name: p.shape for name, p in config.build().named_parameters()}
    assert {name: p.shape for name, p in blank.named_parameters()} == shapes
    assert all(p.device.type == "meta" for p in blank.parameters())


def test_random_numbers_are_as_usual_afterwards() -> None:
    with structure_only():
        torch.nn.Linear(2, 2)
    assert torch.nn.Linear(3, 3).weight.abs().sum() > 0


def test_no_compiler_is_imported() -> None:
    result = subprocess.run(
        [sys.executable, "-c", BUILDS], cwd=ROOT / "tests", capture_output=True, text=True
    )
    assert result.stdout == "[]\n", result.stderr
