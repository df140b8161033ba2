"""machine.compile: block by block, the same totals and gradient, from a cache that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from broadbase.core.contracts import Batch
from broadbase.train.machine import MachineConfig, has_compiler
from support.models import EXPERTS, GATED, model
from support.training import trainer

pytestmark = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


@pytest.mark.slow
@pytest.mark.parametrize("feedforward", [GATED, EXPERTS])
def test_a_compiled_model_learns_the_same(
    batch: Batch,
    feedforward: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BROADBASE_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    result = []
    for compiled in ("off", "on"):
        counters.clear()
        t = trainer(built := model(feedforward), "causal")
        MachineConfig(compile=compiled).compiled(built)  # type: ignore[arg-type]
        totals, _ = t.accumulate(t.objective.views(batch, t.corrupt))
        result.append((totals, {n: p.grad for n, p in built.named_parameters()}))
    assert counters["stats"]["calls_captured"] > 0  # something was compiled
    assert any((tmp_path / "inductor").iterdir())
    assert result[0][0] == pytest.approx(result[1][0], rel=1e-5)
    for name, plain in result[0][1].items():
        if plain is not None:
            torch.testing.assert_close(result[1][1][name], plain, rtol=1e-3, atol=1e-5)
