"""Two gloo ranks (FSDP2 under torchrun) give one process's losses, for a mixture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from test_recipes import corpus, small  # noqa: F401


def losses(run: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_two_ranks_equal_one(corpus: Path, tmp_path: Path, objective: str) -> None:  # noqa: F811
    """Text, code and pictures, Muon and AdamW, 20 steps: every loss within 1e-5."""
    tree = small("mixed", corpus).tree()
    tree["objective"] = {"name": objective}
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
    weights = [load_file(tmp_path / run / "model" / "model.safetensors") for run in ("one", "two")]
    for name, value in weights[0].items():
        assert (value - weights[1][name]).abs().max() < 1e-3, name
