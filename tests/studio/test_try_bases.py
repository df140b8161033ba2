"""The bases of the studio: which there are, what they can do, and how many stay in memory."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.exceptions import HTTPException

from broadbase.inference.base import Base
from broadbase.serve.worker import Worker
from broadbase.studio.abilities import Ability
from broadbase.studio.bases import Bases
from broadbase.weights.folder import load, save
from support.bases import protein_base
from support.runs import pretrain, write_documents


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, one that stopped at a checkpoint, one without, and a link to outside."""
    folder = tmp_path_factory.mktemp("bases")
    pretrain(write_documents(folder / "data"), folder / "runs" / "done")
    runs = folder / "runs"
    for name in ("stopped", "begun"):
        shutil.copytree(runs / "done", runs / name)
        shutil.rmtree(runs / name / "model")
    shutil.rmtree(runs / "begun" / "checkpoints")
    shutil.copytree(runs / "done", folder / "outside")
    (runs / "link").symlink_to(folder / "outside")
    shutil.copytree(runs / "done", runs / "half")
    shutil.rmtree(runs / "half" / "model")
    (runs / "half" / "model").symlink_to(folder / "outside" / "model")
    save(protein_base(), folder / "proteins")
    return folder


@pytest.fixture
def bases(root: Path) -> Iterator[Bases]:
    worker = Worker(8)
    given = {"proteins": str(root / "proteins")}
    yield Bases(root / "runs", given, worker, kept=2)
    worker.close()


def test_runs_with_weights_and_given_bases_are_named(bases: Bases) -> None:
    names = [name for name in bases.names() if not name.startswith("sample:")]
    assert names == ["proteins", "done", "stopped"]


def test_links_and_paths_out_of_the_root_are_no_bases(bases: Bases, root: Path) -> None:
    outside = str(root / "outside")
    for name in ("link", "half", "../outside", "done/../../outside", outside, "begun", ""):
        with pytest.raises(HTTPException) as refused:
            bases.describe(name)
        assert refused.value.status_code == 404
        with pytest.raises(HTTPException):
            asyncio.run(bases.get(name))


def test_a_description_says_what_a_base_can_do(bases: Bases, root: Path) -> None:
    done, stopped, proteins = map(bases.describe, ("done", "stopped", "proteins"))
    loaded = load(root / "runs" / "done")
    assert done.parameters == sum(p.numel() for p in loaded.model.parameters())
    assert done.modalities == {"bytes": "bytes"}
    assert done.abilities == {"bytes": (Ability.CONTINUE, Ability.EMBED)}
    assert done.run == root / "runs" / "done"
    assert done.step is None
    assert (stopped.abilities, stopped.parameters, stopped.step) == (
        done.abilities,
        done.parameters,
        4,
    )
    assert proteins.abilities == {"protein": (Ability.FILL, Ability.EMBED)}
    assert proteins.run is None


def test_a_checkpoint_is_the_base_that_the_run_would_keep(bases: Bases) -> None:
    async def both() -> tuple[Base, Base]:
        return await bases.get("done"), await bases.get("stopped")

    done, stopped = asyncio.run(both())
    texts = ["alpha beta", "gamma"]
    np.testing.assert_array_equal(done.embed(texts), stopped.embed(texts))


def test_the_base_used_least_recently_leaves_the_memory(bases: Bases) -> None:
    async def ids(*names: str) -> list[int]:
        return [id(await bases.get(name)) for name in names]

    loaded = asyncio.run(ids("done", "stopped", "done", "proteins", "done"))
    assert loaded[0] == loaded[2] == loaded[4]
    assert {name for name, _ in bases._loaded} == {"done", "proteins"}


def test_a_base_that_was_trained_again_is_read_again(bases: Bases, root: Path) -> None:
    before = asyncio.run(bases.get("done"))
    (root / "runs" / "done" / "model" / "config.json").touch()
    assert asyncio.run(bases.get("done")) is not before
