"""Data: nothing is lost or repeated, order is a function of (seed, step), damage is found."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.contracts import Batch
from broadbase.core.errors import ConfigError, DataError, ResourceError
from broadbase.core.sources import Record
from broadbase.data.batches import MixedBatches, Order, held_out
from broadbase.data.rows import Rows
from broadbase.data.sources.json_files import JsonLinesConfig
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.data.store.codecs import training_records
from broadbase.data.store.documents import Split
from broadbase.data.store.requests import StoreRequest
from broadbase.data.store.store import Store, open_store
from broadbase.modalities.bytes import BytesCodec, BytesConfig
from broadbase.modalities.image import ImageConfig
from support.paths import TESTS
from support.programs import run
from support.stores import stored

START, END = np.array(256), np.array(257)


def split(lengths: list[int]) -> Split:
    """Documents of given lengths whose values are all different."""
    return Split(
        values=(np.arange(sum(lengths)),),
        shards=np.zeros(len(lengths), np.int64),
        firsts=np.cumsum(lengths) - lengths,
        lengths=np.array(lengths),
        grids=np.array(lengths)[:, None],
        units_each=np.array(lengths),
        start=np.array(-1),
        end=np.array(-2),
    )


documents = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(documents, st.integers(2, 24))
def test_every_value_is_a_target_exactly_once(lengths: list[int], length: int) -> None:
    source = split(lengths)
    rows = Rows(source, length)
    targets: Counter[int] = Counter()
    for i in range(len(rows)):
        row = rows[i]
        targets.update(row.values[row.weight > 0].tolist())
        for number in range(row.document.max() + 1):
            inside = row.document == number
            assert row.weight[inside][0] == 0
            assert (row.order[inside] == np.arange(inside.sum())).all()
            values = row.values[inside]
            real = values[(values != -1) & (values != -2)]
            assert (np.diff(real) == 1).all()
    expected = Counter(range(sum(lengths)))
    expected[-2] = len(lengths)
    assert targets == expected
    assert source.targets == sum(targets.values())


@settings(max_examples=30, deadline=None)
@given(documents)
def test_packing_wastes_little(lengths: list[int]) -> None:
    """Best fit: no two rows could be one."""
    rows = Rows(split(lengths), 24)
    used = sorted(np.add.reduceat(rows.chunks[rows.packed, 2], rows.starts[:-1]).tolist())
    assert len(used) < 2 or used[0] + used[1] > 24


def test_a_picture_is_never_cut() -> None:
    image = ImageConfig(height=8, width=8, channels=1, patch=2).fit([])
    one = Split(
        values=(np.zeros((16, 4), np.float32),),
        shards=np.array([0]),
        firsts=np.array([0]),
        lengths=np.array([16]),
        grids=np.array([[4, 4]]),
        units_each=np.array([64]),
        start=image.start,
        end=None,
    )
    assert Rows(one, 17).plain
    with pytest.raises(
        DataError, match=r"17 tokens does not fit a row of 16.*NAME.sequence_length=17"
    ):
        Rows(one, 16)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    for i in range(60):
        words = [f"w{n}" for n in rng.integers(0, 50, rng.integers(3, 30))]
        (folder / f"{i:02d}.txt").write_text(f"document {i} " + " ".join(words))
    return folder


@pytest.fixture(scope="module")
def store(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("stores") / "text"
    return stored(TextFilesConfig(path=str(corpus)), folder, holdout=0.2)


def mixture(store: Store) -> MixedBatches:
    rows = {"a": Rows(store.split("train"), 32), "b": Rows(store.split("validation"), 24)}
    return MixedBatches(rows, {"a": "bytes", "b": "bytes"}, {"a": 6, "b": 2}, seed=5)


def same(one: Batch, other: Batch) -> bool:
    return one.step == other.step and all(
        torch.equal(getattr(one.segments[name], field), getattr(other.segments[name], field))
        for name in one.segments
        for field in ("values", "position", "order", "document", "loss_weight")
    )


def test_resuming_anywhere_is_exact(store: Store) -> None:
    mixed = mixture(store)
    per_epoch = len(mixed.rows["a"]) // 6
    full = list(mixed.batches(0, 3 * per_epoch))
    for start in (0, 1, per_epoch - 1, per_epoch, per_epoch + 1, 3 * per_epoch - 2):
        again = list(mixed.batches(start, 3 * per_epoch))
        assert len(again) == 3 * per_epoch - start
        assert all(same(a, b) for a, b in zip(again, full[start:], strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(store: Store, workers: int) -> None:
    alone, helped = mixture(store).batches(3, 9), mixture(store).batches(3, 9, workers=workers)
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))


def test_ranks_share_a_batch(store: Store) -> None:
    mixed = mixture(store)
    full = next(iter(mixed.batches(4, 5)))
    parts = [next(iter(mixed.batches(4, 5, rank=r, world=2))) for r in range(2)]
    for name, segment in full.segments.items():
        for r, part in enumerate(parts):
            assert torch.equal(segment.values[r::2], part.segments[name].values)
            ours = part.rng.uniform(name, len(segment.values[r::2]), 7)
            assert torch.equal(full.rng.uniform(name, len(segment.values), 7)[r::2], ours)
    with pytest.raises(ConfigError, match=r"batch_size=2 does not divide over 3 ranks"):
        next(
            iter(MixedBatches(mixed.rows, mixed.spaces, {"a": 6, "b": 2}, 5).batches(0, 1, world=3))
        )


def test_an_epoch_takes_every_row_once_and_the_next_another_order(store: Store) -> None:
    rows = Rows(store.split("train"), 32)
    mixed = MixedBatches({"a": rows}, {"a": "bytes"}, {"a": 1}, seed=0)

    def epoch(i: int) -> list[bytes]:
        n = len(rows)
        batches = islice(mixed.batches(i * n, (i + 1) * n), n)
        return [b.segments["a"].values.numpy().tobytes() for b in batches]

    first, second = epoch(0), epoch(1)
    assert (
        Counter(first)
        == Counter(second)
        == Counter(rows[i].values.tobytes() for i in range(len(rows)))
    )
    assert first != second


@pytest.mark.parametrize("rows", [1, 2, 37, 5000])
def test_any_place_of_the_order_is_recognised_without_those_before(rows: int) -> None:
    numbers = np.random.default_rng(rows).permutation(rows) + 3
    straight = Order(numbers, [7])
    output = [straight[i] for i in range(3 * rows)]
    epochs = [output[i * rows : (i + 1) * rows] for i in range(3)]
    assert all(sorted(epoch) == sorted(numbers) for epoch in epochs)
    assert rows < 37 or len({tuple(epoch) for epoch in epochs}) == 3
    anywhere = Order(numbers, [7])  # from the last place to the first
    assert [anywhere[i] for i in reversed(range(3 * rows))] == output[::-1]
    assert rows < 37 or output != [Order(numbers, [8])[i] for i in range(rows)] + output[rows:]


def test_held_out_rows_come_all_and_in_order(store: Store) -> None:
    rows = Rows(store.split("validation"), 24)
    segments = list(held_out(rows, "bytes", 4))
    values = torch.cat([s.values for s in segments])
    assert torch.equal(
        values, torch.stack([torch.from_numpy(rows[i].values) for i in range(len(rows))])
    )


def test_the_split_follows_content_not_order(tmp_path: Path) -> None:
    """Copies under other names change no side, and are kept once."""
    folder = tmp_path / "d"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"text {i}")
        (folder / f"z{39 - i}.txt").write_text(f"text {i}")
    source = TextFilesConfig(path=str(folder))
    store = stored(source, tmp_path / "s", holdout=0.3)
    assert store.manifest["counts"]["exact"] == 40
    sides = [decoded(store, name) for name in ("train", "validation")]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == {f"text {i}" for i in range(40)}
    assert set(training_records([StoreRequest(source, BytesConfig(), "bytes")], 0.3)) == sides[0]


def decoded(store: Store, name: str) -> set[str]:
    part, codec = store.split(name), BytesCodec()
    return {str(codec.decode(part.document(i)[1:-1], ())) for i in range(len(part))}


def test_a_flipped_byte_a_cut_file_and_a_future_format(corpus: Path, tmp_path: Path) -> None:
    stored(TextFilesConfig(path=str(corpus)), tmp_path / "s", holdout=0.2)
    (array,) = (tmp_path / "s" / "shards").glob("*/values.npy")
    manifest = tmp_path / "s" / "manifest.json"
    good = array.read_bytes()
    array.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(DataError, match=r"values\.npy was altered"):
        open_store(tmp_path / "s", verify=True)
    array.write_bytes(good[:-1])
    with pytest.raises(DataError, match=r"values\.npy is missing or cut short"):
        open_store(tmp_path / "s")
    tree = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**tree, "format": 5}))
    with pytest.raises(DataError, match=r"format 5, this program reads format 4; upgrade"):
        open_store(tmp_path / "s")


def test_a_full_disk_leaves_nothing_half_written(corpus: Path, tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; from pathlib import Path;"
        "sys.path.insert(0, sys.argv[3]);"
        "from broadbase.data.sources.texts import TextFilesConfig;"
        "from support.stores import stored;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048));"
        "stored(TextFilesConfig(path=sys.argv[1]), Path(sys.argv[2]), holdout=0.2)"
    )
    done = run(script, corpus, tmp_path / "s", TESTS)
    assert "ResourceError" in done.stderr
    assert "free space or permissions" in done.stderr
    assert not list((tmp_path / "s").glob("shards/*"))
    assert not (tmp_path / "s" / "manifest.json").exists()


def test_labels_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "label": 1}\n\n{"text": "b", "label": 0}\n')
    records = list(JsonLinesConfig(path=str(path), label="label").records())
    assert [(r.raw, r.label) for r in records if isinstance(r, Record)] == [("a", "1"), ("b", "0")]


@pytest.mark.slow
def test_a_loader_process_that_is_killed_is_said_so(store: Store) -> None:
    mixed = MixedBatches({"a": Rows(store.split("train"), 32)}, {"a": "bytes"}, {"a": 2}, seed=0)
    batches = mixed.batches(0, 1_000_000, workers=1)
    next(batches)
    (worker,) = [p for p in multiprocessing.active_children() if "grain" in p.name]
    worker.kill()
    with pytest.raises(ResourceError, match=r"a loader process was killed.*resume"):
        for _ in batches:
            pass


def test_a_limit_repeats_the_same_rows(store: Store) -> None:
    rows = Rows(store.split("train"), 32)
    mixed = MixedBatches({"a": rows}, {"a": "bytes"}, {"a": 2}, seed=0, limits={"a": 6})
    seen = Counter(
        value.tobytes() for b in mixed.batches(0, 9) for value in b.segments["a"].values.numpy()
    )
    assert len(seen) == 6
    assert set(seen.values()) == {3}
