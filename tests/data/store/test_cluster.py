"""Shards made elsewhere: a real Ray of this machine gives the store that this process gives."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from string import ascii_lowercase

import pytest

from broadbase.core.errors import ConfigError
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.data.store import planning
from broadbase.data.store.cluster import on_ray, on_slurm
from broadbase.data.store.prepare import PrepareConfig, prepare
from broadbase.data.store.requests import StoreRequest
from broadbase.modalities.bytes import BytesConfig

STORE = """
import sys
from pathlib import Path
from broadbase.data.store import planning
from broadbase.data.store import prepare as p
from broadbase.data.store.cluster import on_ray
from broadbase.data.store.requests import StoreRequest
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.modalities.bytes import BytesConfig
planning.SHARD = 1
texts, store = map(Path, sys.argv[1:])
wanted = {"t": StoreRequest(TextFilesConfig(path=str(texts)), BytesConfig(), "bytes")}
p.prepare(wanted, store, p.PrepareConfig(processes=2, holdout=0.5), on_ray())
"""


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four files, each a shard of its own."""
    monkeypatch.setattr(planning, "SHARD", 1)
    folder, rng = tmp_path / "texts", random.Random(0)
    folder.mkdir()
    for i in range(4):
        words = ("".join(rng.choices(ascii_lowercase, k=6)) for _ in range(200))
        (folder / f"{i}.txt").write_text(" ".join(words))
    return folder


def wanted(texts: Path) -> dict[str, StoreRequest]:
    return {"t": StoreRequest(TextFilesConfig(path=str(texts)), BytesConfig(), "bytes")}


def left(store: Path) -> dict[str, bytes]:
    files = (p for p in sorted((store / "t").rglob("*")) if p.is_file())
    return {str(p.relative_to(store)): p.read_bytes() for p in files}


def ray_store(texts: Path, store: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", STORE, str(texts), str(store)]
    environment = {
        **os.environ,
        "RAY_worker_niceness": "0",
    }  # its workers yield to all others, by 15
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=environment
    )


def test_a_real_ray_makes_the_same_store(texts: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    prepare(wanted(texts), tmp_path / "here", PrepareConfig(holdout=0.5))
    done = ray_store(texts, tmp_path / "there")
    assert done.returncode == 0, done.stderr
    assert left(tmp_path / "there") == left(tmp_path / "here")
    assert len(list((tmp_path / "there" / "t" / "shards").iterdir())) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_shards_that_ray_could_not_make_are_counted(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "there" / "t" / "shards").mkdir(parents=True)
    (tmp_path / "there" / "t" / "shards").chmod(0o500)
    done = ray_store(texts, tmp_path / "there")
    assert "4 of 4 shards were not made" in done.stderr


def test_what_is_not_here_is_named(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="needs its command sbatch"):
        prepare(wanted(texts), tmp_path / "store", progress=on_slurm("cpu"))
    monkeypatch.setitem(sys.modules, "ray", None)
    from broadbase.core.extras import require_extra

    require_extra.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'broadbase\[cluster\]'"):
        on_ray()
    require_extra.cache_clear()
    assert json.loads((tmp_path / "store" / "t" / "codec" / "modality.json").read_text())
