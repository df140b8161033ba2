"""Two gloo ranks (FSDP2 under torchrun) give one process's losses, for a mixture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from test_recipes import corpus, small  # noqa: F401


def losses(run: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


EXPERTS = {"name": "experts", "hidden": 64, "experts": 4}
PARTS = {"causal": {"objective": {"name": "causal"}, "sources": ["text", "code"]}}
PARTS["masked"] = {"objective": {"name": "masked"}, "scale": 0.5}  # type: ignore[dict-item]
CASES: dict[str, tuple[str, dict[str, Any] | None]] = {
    "causal": ("mixed", {"name": "causal"}),
    "mixture": ("mixed", {"name": "mixture", "parts": PARTS}),
    "experts": ("t5", None),
    "mae": ("mae", None),
}


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one(corpus: Path, tmp_path: Path, case: str) -> None:  # noqa: F811
    """Every objective over all its sources, Muon and AdamW, 20 steps: every loss within 1e-5."""
    recipe, objective = CASES[case]
    tree = small(recipe, corpus).tree()
    if objective is not None:
        tree["objective"] = objective
    if case == "experts":
        tree["model"]["towers"]["encoder"]["layers"][0]["block"]["feedforward"] = EXPERTS
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    arguments = ["-m", "broadbase.cli", "pretrain", str(tmp_path / "config.yaml"), "--out"]
    alone = [sys.executable, *arguments, str(tmp_path / "one")]
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    together += [*arguments, str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for command in (alone, together):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300, env=environment
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 20
    for mine, theirs in zip(one, two, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    assert ("encoder/balance" in one[0]) == (case == "experts")
    weights = [load_file(tmp_path / run / "model" / "model.safetensors") for run in ("one", "two")]
    for name, value in weights[0].items():
        assert (value - weights[1][name]).abs().max() < 1e-3, name


PAIRS = """
import json, os, sys, torch, torch.distributed as dist
from broadbase.core.contracts import ObjectiveConfig
from broadbase.core.view import Output, Segment, Stream, View
if "RANK" in os.environ:
    dist.init_process_group("gloo")
rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
data = torch.randn(2, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
mine = data[:, rank::world].clone().requires_grad_()
objective = ObjectiveConfig.from_tree({"name": sys.argv[1]}).build()
view = View((Stream("image", "image", (Segment("image", None, torch.zeros(8 // world, 1, 3)),)),))
output = Output({}, {}, {"image": mine[0].unsqueeze(1), "text": mine[1].unsqueeze(1)})
total = objective.loss([output], [view])["pairs"]
total.backward()
both = torch.cat([total.detach()[None], torch.zeros(80, dtype=torch.float64)])
both[1:].view(2, 8, 5)[:, rank::world] = mine.grad
if world > 1:
    dist.all_reduce(both)
if rank == 0:
    print(json.dumps(both.tolist()))
if world > 1:
    dist.destroy_process_group()
"""


@pytest.mark.parametrize("objective", ["infonce", "sigmoid"])
def test_pairs_of_all_ranks_are_told_apart(tmp_path: Path, objective: str) -> None:
    """The loss and the gradient of every vector, gathered over 2 and 4 ranks, are one process's."""
    (tmp_path / "pairs.py").write_text(PAIRS)
    found = []
    for ranks in (1, 2, 4):
        run = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command = [sys.executable, *(run if ranks > 1 else []), str(tmp_path / "pairs.py")]
        done = subprocess.run(
            [*command, objective], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    assert found[1] == pytest.approx(found[0], rel=1e-10)
    assert found[2] == pytest.approx(found[0], rel=1e-10)
