"""Checkpoints are there as a whole or not at all, and damage is found before it is used."""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.errors import DataError, ResourceError
from broadbase.train.checkpoint import Checkpoint, newest, prune, read
from broadbase.train.saver import Saver
from support.programs import Program, run

GROUPS = {
    "model": {
        "a": torch.arange(6.0).view(2, 3),
        "b": torch.ones(3, dtype=torch.bfloat16),
        "t": torch.arange(6.0).view(2, 3).T,
    },
    "optim": {
        "a/step": torch.tensor(3.0),
        "a/n": torch.tensor([True, False]),
        "d": torch.ones(2, dtype=torch.float64),
    },
}


def write(folder: Path, *steps: int) -> None:
    with Saver(folder, keep_last=99) as saver:
        for step in steps:
            saver.save(step, GROUPS, {"n": step})


def loaded(saved: Checkpoint) -> dict[str, torch.Tensor]:
    result = saved.tensors
    tensors = {n: torch.empty(each.size, dtype=each.properties.dtype) for n, each in result.items()}
    saved.load(tensors)
    return tensors


def test_round_trip_is_exact(tmp_path: Path) -> None:
    write(tmp_path, 7)
    saved = read(tmp_path / "step-000007")
    assert saved.step == 7
    assert saved.identity == {"n": 7}
    back = loaded(saved)
    assert set(back) == {name for tensors in GROUPS.values() for name in tensors}
    for tensors in GROUPS.values():
        for name, tensor in tensors.items():
            assert back[name].dtype == tensor.dtype
            assert torch.equal(back[name], tensor)


def test_tensors_of_another_model_are_refused(tmp_path: Path) -> None:
    write(tmp_path, 7)
    saved = read(tmp_path / "step-000007")
    with pytest.raises(DataError, match=r"is of another model: .*c"):
        saved.load({"a": torch.zeros(2, 3), "c": torch.zeros(2)})
    with pytest.raises(DataError, match=r"is of another model: .*a"):
        saved.load({"a": torch.zeros(3, 3)})


def test_the_loop_goes_on_while_it_is_written(tmp_path: Path) -> None:
    """What changes after `save` does not leak in; two saves follow one another."""
    weights = torch.zeros(20_000_000)
    with Saver(tmp_path) as saver:
        for step in (1, 2):
            saver.save(step, {"model": {"a": weights}}, {})
            weights += 1
            assert not (tmp_path / f"step-{step:06d}").exists()
        assert (tmp_path / "step-000001").exists()
        saver.wait()
        for step in (1, 2):
            assert (loaded(read(tmp_path / f"step-{step:06d}"))["a"] == step - 1).all()


def test_no_pickle(tmp_path: Path) -> None:
    write(tmp_path, 1)
    names = {p.name for p in (tmp_path / "step-000001").iterdir()}
    assert names == {"model.safetensors", "optim.safetensors", "meta.json", "COMPLETE"}


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["model.safetensors", "optim.safetensors", "meta.json", "COMPLETE"]),
    st.sampled_from(["cut", "flip", "remove"]),
    st.randoms(use_true_random=False),
)
def test_any_damage_is_detected(file: str, how: str, rng: random.Random) -> None:
    """The one before is used, and the reason names the file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, 1, 2)
        path = folder / "step-000002" / file
        data = bytearray(path.read_bytes())
        place = rng.randrange(len(data))
        if how == "flip":
            data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data[:place] if how == "cut" else data)
        if how == "remove":
            path.unlink()
        good, skipped = newest(folder)
        if file == "COMPLETE" and how == "flip" and not skipped:
            # a flip inside white space or the step says nothing false about the files
            assert good is not None
            return
        assert good is not None
        assert good.step == 1
        (bad,) = skipped
        assert bad.path.name == "step-000002"
        assert file in bad.reason or "step-000002" in bad.reason


def test_half_written_and_future_ones_are_skipped(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    (tmp_path / "step-000003" / "COMPLETE").unlink()
    seal = tmp_path / "step-000002" / "COMPLETE"
    seal.write_text(json.dumps({**json.loads(seal.read_text()), "format": 2}))
    good, skipped = newest(tmp_path)
    assert good is not None
    assert good.step == 1
    assert "step-000003 was never finished" in skipped[0].reason
    assert "format 2, this program reads up to 1; upgrade" in skipped[1].reason


def test_a_folder_of_the_users_is_no_checkpoint(tmp_path: Path) -> None:
    """Copies and notes among the checkpoints are neither used nor erased."""
    write(tmp_path, 1, 2)
    for name in ("step-000002.bak", "step-abc", "step-", "step-1", "notes", "step-000001/mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-000009").write_text("a file")
    (tmp_path / "step-000002").rename(tmp_path / "step-000007")
    good, skipped = newest(tmp_path)
    assert good is not None
    assert good.step == 1
    (copy,) = skipped
    assert "is a copy of step 2" in copy.reason
    before = sorted(tmp_path.rglob("*"))
    prune(tmp_path, 60, 1, None)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_killed_removal_left_is_removed(tmp_path: Path) -> None:
    """A checkpoint that lost its COMPLETE goes where a newer good one is, and drafts go."""
    write(tmp_path, 1, 2, 3, 4)
    for step in (1, 4):
        (tmp_path / f"step-{step:06d}" / "COMPLETE").unlink()
    draft = tmp_path / ".step-000005.0123abcd.draft"
    (draft / "step-000005").mkdir(parents=True)
    prune(tmp_path, 3, 2, None)
    assert {path.name for path in tmp_path.iterdir()} == {f"step-00000{n}" for n in (2, 3, 4)}


def test_all_can_read_what_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write(tmp_path, 1)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "step-000001").iterdir()}
    assert modes == {0o644}


SEALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=4), each),
    max_leaves=6,
)


def spoilt(file: str, rng: random.Random, content: object) -> bytes:
    """Other bytes, other JSON, or one field changed."""
    match rng.randrange(3):
        case 0:
            return rng.randbytes(rng.randrange(40))
        case 1:
            return json.dumps(content).encode()
    tree = json.loads(file)
    tree[rng.choice(list(tree))] = content
    return json.dumps(tree).encode()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["COMPLETE", "meta.json"]), st.randoms(use_true_random=False), SEALS)
def test_damaged_bookkeeping_is_skipped(file: str, rng: random.Random, content: object) -> None:
    """Whatever stands in a checkpoint's own files, it is used as it was or not at all."""
    damaged(file, rng, content)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(st.sampled_from(["COMPLETE", "meta.json"]), st.randoms(use_true_random=False), SEALS)
def test_damaged_bookkeeping_is_skipped_often(
    file: str, rng: random.Random, content: object
) -> None:
    damaged(file, rng, content)


def damaged(file: str, rng: random.Random, content: object) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, 1, 2)
        path = folder / "step-000002" / file
        path.write_bytes(spoilt(path.read_text(), rng, content))
        good, skipped = newest(folder)
        assert good is not None
        if not skipped:  # what was changed says nothing, as the step of COMPLETE
            assert good.step == 2
            assert good.identity == {"n": 2}
        loaded(good)


def test_nothing_there(tmp_path: Path) -> None:
    assert newest(tmp_path / "none") == (None, ())
    with pytest.raises(DataError, match="never finished"):
        read(tmp_path)


@settings(max_examples=25, deadline=None)
@given(
    st.sets(st.integers(1, 60), min_size=1, max_size=6),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(1, 20)),
)
def test_prune_keeps_what_it_promises(steps: set[int], last: int, every: int | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), *sorted(steps))
        prune(Path(name), 60, last, every)
        left = {int(p.name.removeprefix("step-")) for p in Path(name).iterdir()}
        multiples = {s for s in steps if every and s % every == 0}
        assert left == set(sorted(steps)[-last:]) | multiples


def test_a_full_disk_leaves_the_last_good_one(tmp_path: Path) -> None:
    write(tmp_path, 1)
    script = (
        "import resource, signal, sys, torch; from pathlib import Path;"
        "from broadbase.train.saver import Saver;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "saver = Saver(Path(sys.argv[1]));"
        "saver.save(2, {'model': {'a': torch.zeros(9000)}}, {}); print('goes on'); saver.wait()"
    )
    done = run(script, tmp_path)
    assert done.stdout == "goes on\n"
    assert "ResourceError" in done.stderr
    assert "step-000001 is still good" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["step-000001"]


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    saver = Saver(tmp_path / "file" / "checkpoints")
    saver.save(1, GROUPS, {})
    with pytest.raises(ResourceError, match=r"cannot be written.*none is older"):
        saver.wait()


def test_kill_at_any_moment(tmp_path: Path) -> None:
    """A process saves step after step and is killed, four times: what is newest is whole."""
    script = (
        "import sys, torch; from pathlib import Path\n"
        "from broadbase.train.checkpoint import newest\n"
        "from broadbase.train.saver import Saver\n"
        "folder = Path(sys.argv[1]); good, _ = newest(folder)\n"
        "saver = Saver(folder, keep_last=2)\n"
        "for step in range(good.step + 1 if good else 1, 10**6):\n"
        "    saver.save(step, {'model': {'a': torch.full((50_000,), float(step))}}, {})\n"
    )
    reached = 0
    for i in range(4):
        process = Program(script, tmp_path)
        while not list(tmp_path.glob(f"step-{reached + 3:06d}/COMPLETE")):
            good, _ = newest(tmp_path)
            if good is not None and good.step > reached + 2:
                break
            time.sleep(0.02)
        time.sleep(random.Random(i).random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        good, _ = newest(tmp_path)
        assert good is not None
        assert (loaded(good)["a"] == good.step).all()
        assert good.step > reached
        reached = good.step
