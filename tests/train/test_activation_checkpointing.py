"""machine.activation_checkpointing: the same gradient to the bit, in less memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from broadbase.core.contracts import Batch
from broadbase.train.machine import MachineConfig, blocks
from support.models import EXPERTS, GATED, model
from support.training import trainer


@pytest.mark.parametrize("feedforward", [GATED, EXPERTS])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_the_gradient_is_the_same(
    batch: Batch, feedforward: dict[str, object], micro_batches: int
) -> None:
    """Also that of what the experts charge, which does not go through a block's output."""
    result = []
    for recompute in (False, True):
        built = model(feedforward)
        MachineConfig(activation_checkpointing=recompute).checkpoint_activations(built)
        ran: list[int] = []
        for i, block in enumerate(blocks(built)):
            block.attention.register_forward_pre_hook(lambda *_, i=i, ran=ran: ran.append(i))
        t = trainer(built, "causal", micro_batches)
        totals, _ = t.accumulate(t.objective.views(batch, t.corrupt))
        times = (1 + recompute) * 2 * micro_batches  # two sources
        assert sorted(ran) == sorted([0, 1, 2] * times)
        result.append((totals, [p.grad for p in built.parameters()]))
    assert result[0][0] == result[1][0]
    for full, again in zip(result[0][1], result[1][1], strict=True):
        assert (full is None) == (again is None)  # what nothing was hidden for
        assert full is None or torch.equal(full, again)


PEAKS = """
import json, torch
from broadbase.core.contracts import TowerConfig
from broadbase.core.view import Tokens
from broadbase.train.machine import MachineConfig
attention = {"name": "grouped", "heads": 2, "kv_heads": 2, "head_dim": 32}
block = {"attention": attention, "feedforward": {"name": "gated", "hidden_width": 256}}
layers = [{"block": block, "repeat": 8}]
config = TowerConfig.from_tree({"name": "transformer", "width": 64, "layers": layers})
peaks = []
for recompute in (True, False):  # the peak is that of the process so far: the small one first
    tower = config.build()
    MachineConfig(activation_checkpointing=recompute).checkpoint_activations(tower)
    place = torch.arange(512)[None, :, None].expand(16, -1, 3)
    x = torch.randn(16, 512, 64, requires_grad=True)
    tower(x, Tokens(place), "causal").x.sum().backward()
    facts = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peaks.append(int(facts["VmHWM"].split()[0]) / 1024)  # ru_maxrss begins at the parent's peak
print(json.dumps(peaks))
"""


@pytest.mark.slow
def test_it_takes_less_memory() -> None:
    """8 layers of 8,192 places keep some 290 MB of activations; 8 inputs of layers are 17."""
    alone = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed leaves no holes
    done = subprocess.run(
        [sys.executable, "-c", PEAKS],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=alone,
    )
    again, kept = json.loads(done.stdout)
    assert kept - again > 200
