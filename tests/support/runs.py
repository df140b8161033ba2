"""Short runs through the command line, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from broadbase.commands.app import app
from broadbase.core.errors import BroadbaseError
from broadbase.train.metrics_log import read

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]

SET = {
    "train.steps": 4,
    "train.save_every": 2,
    "train.samples": 0,
    "data.validation_rows": 2,
    "data.final_rows": 4,
    "data.holdout": 0.3,
    "data.sources.bytes.batch_size": 4,
    "data.sources.bytes.sequence_length": 32,
    "machine.precision": "fp32",
    "machine.matmul": "torch",
}


def write_documents(folder: Path) -> Path:
    """Write 20 documents of ten words."""
    folder.mkdir()
    for i in range(20):
        words = " ".join(WORDS[(i * k) % 10] for k in range(12))
        (folder / f"{i}.txt").write_text(f"document {i} {words}")
    return folder


def broadbase(*words: str | Path, **settings: Any) -> Result:
    """A command in this process; an error that a user can act on stays as it is."""
    changes = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    result = CliRunner().invoke(app, [*map(str, words), *changes])
    if isinstance(result.exception, BroadbaseError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def pretrain(data: Path | str, out: Path, **more: Any) -> Result:
    words = ("pretrain", "bytes", "--data", data, "--depth", "1", "--out", out)
    return broadbase(*words, **{**SET, **more})


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def rows(run: Path, key: str = "loss") -> list[Any]:
    return [row["step"] for row in read(run / "metrics.jsonl") if key in row]
