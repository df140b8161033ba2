"""Preparing data: planted duplicates, kills, added files, removed documents, parts of files."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import Record, Reject
from broadbase.data.identity import digest_of
from broadbase.data.sources import texts
from broadbase.data.sources.json_files import JsonLinesConfig
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.data.store import planning
from broadbase.data.store import prepare as preparing
from broadbase.data.store.duplicates import clusters
from broadbase.data.store.prepare import PrepareConfig, prepare, remove
from broadbase.data.store.requests import StoreRequest
from broadbase.data.store.sketches import sketch
from broadbase.data.store.store import Store, open_store
from broadbase.modalities.bytes import BytesConfig
from broadbase.modalities.text import TextConfig
from support.programs import Program, run
from support.stores import stored

TEXT = TextConfig(vocab_size=300)


def sentence(rng: random.Random, words: int) -> list[str]:
    return [f"w{int(rng.paretovariate(0.6)) % 20_000}" for _ in range(words)]


def edited(words: list[str], share: float, rng: random.Random) -> list[str]:
    """A share of the words replaced, deleted or doubled, at random places."""
    result = list(words)
    for i in sorted(rng.sample(range(len(words)), max(1, int(share * len(words)))), reverse=True):
        result[i : i + 1] = rng.choice([[f"x{rng.random()}"], [], [result[i], result[i]]])
    return result


def jaccard(one: list[str], other: list[str]) -> float:
    a, b = (set(TEXT.shingles(" ".join(words))) for words in (one, other))
    return len(a & b) / len(a | b)


def test_planted_duplicates_are_detected() -> None:
    """5 % exact, 5 % near (edits of 1 to 20 %): recall >= 0.95 at precision >= 0.99."""
    rng = random.Random(0)
    texts = [sentence(rng, rng.randint(40, 400)) for _ in range(4000)]
    near, exact = {}, {}
    for _ in range(200):
        i, j = rng.randrange(4000), rng.randrange(4000)
        exact[len(texts)] = i
        texts.append(list(texts[i]))
        near[len(texts)] = j
        texts.append(edited(texts[j], rng.uniform(0.01, 0.2), rng))
    raws = [" ".join(words) for words in texts]
    ids = np.array([np.frombuffer(digest_of(raw)[:16], np.uint8) for raw in raws])
    head, same = clusters(ids, [sketch([TEXT.shingles(raw) for raw in raws])], 0.75)
    assert all(same[twin] == same[original] for twin, original in exact.items())
    result = {i for i in range(len(texts)) if head[i] != i and same[i] == i}
    wanted = {twin for twin, i in near.items() if jaccard(texts[twin], texts[i]) >= 0.8}
    assert len(wanted) > 30
    assert len(result & wanted) >= 0.95 * len(wanted)
    assert len(result & near.keys()) >= 0.99 * len(result)


def test_a_cluster_is_kept_once_and_over_all_sources(tmp_path: Path) -> None:
    rng = random.Random(1)
    texts = [sentence(rng, 80) for _ in range(60)]
    for name, some in (("a", texts[:40]), ("b", [edited(t, 0.01, rng) for t in texts[20:]])):
        (tmp_path / name).mkdir()
        for i, words in enumerate(some):
            (tmp_path / name / f"{i}.txt").write_text(" ".join(words))
    wanted = {
        name: StoreRequest(TextFilesConfig(path=str(tmp_path / name)), TEXT, "text")
        for name in "ab"
    }
    stores, _ = prepare(wanted, tmp_path / "s", PrepareConfig(holdout=0.3))
    counts = {name: store.manifest["counts"] for name, store in stores.items()}
    assert counts["a"]["near"] == 0
    assert counts["b"]["near"] >= 19
    rows = [json.loads(r) for r in (tmp_path / "s/b/duplicates.jsonl").read_text().splitlines()]
    assert len(rows) == counts["b"]["near"]
    assert all(row["kept"].startswith(str(tmp_path / "a")) for row in rows)
    assert all(0.75 <= row["similarity"] <= 1 for row in rows)


def lines_file(path: Path, count: int, bad: dict[int, str] | None = None) -> Path:
    lines = [json.dumps({"text": f"line number {i:04}", "n": i}) for i in range(1, count + 1)]
    for number, line in (bad or {}).items():
        lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")
    return path


def contents(store: Store) -> dict[str, list[bytes]]:
    return {
        side: [split.document(i).tobytes() for i in range(len(split))]
        for side in ("train", "validation")
        for split in (store.split(side),)
    }


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "PIECE", 1000)
    monkeypatch.setattr(planning, "SHARD", 3000)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab\r ", max_size=12), max_size=60), st.integers(1, 50), st.booleans())
def test_parts_of_a_file_are_its_lines(lines: list[str], piece: int, last: bool) -> None:
    """However a file is cut, every line is read once, under its own number."""
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"broadbase-parts-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    text = "\n".join(json.dumps({"text": line}) for line in lines) + ("\n" if last else "")
    (folder / "a.jsonl").write_text(text)
    source = JsonLinesConfig(path=str(folder / "a.jsonl"))
    full = list(source.records())
    before, texts.PIECE = texts.PIECE, piece
    try:
        assert list(source.records()) == full
    finally:
        texts.PIECE = before
        shutil.rmtree(folder)


@pytest.mark.usefixtures("small_pieces")
def test_bad_records_of_each_kind_at_their_lines(tmp_path: Path) -> None:
    bad = {50: "{", 120: '{"txt": 1}', 199: '{"text": 3}', 200: "[1]", 260: '{"text": " "}'}
    source = JsonLinesConfig(path=str(lines_file(tmp_path / "a.jsonl", 300, bad)))
    assert len(source.parts()) > 5
    store = stored(source, tmp_path / "s", holdout=0.3, rejects=0.05)
    lines = (tmp_path / "s" / "rejected.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [int(row["origin"].rpartition(":")[2]) for row in rows] == sorted(bad)
    assert store.manifest["counts"]["records"] == 300
    assert store.manifest["counts"]["empty"] == 1
    assert store.manifest["counts"]["rejected"] == 4


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("processes", [1, 2])
def test_how_it_is_cut_and_by_whom_changes_nothing(tmp_path: Path, processes: int) -> None:
    source = JsonLinesConfig(path=str(lines_file(tmp_path / "a.jsonl", 400)))
    store = stored(source, tmp_path / "s", holdout=0.3, processes=processes)
    assert len(store.manifest["shards"]) > 3
    texts.PIECE = planning.SHARD = 1 << 24
    full = stored(source, tmp_path / "t", holdout=0.3)
    assert len(full.manifest["shards"]) == 1
    assert contents(store) == contents(full)
    assert store.fingerprint == full.fingerprint


def test_packed_files_are_the_same(tmp_path: Path) -> None:
    plain = lines_file(tmp_path / "a.jsonl", 300)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pa.CompressedOutputStream(str(tmp_path / "a.jsonl.zst"), "zstd") as file:
        file.write(plain.read_bytes())
    raws = [
        [r.raw for r in JsonLinesConfig(path=str(path)).records() if isinstance(r, Record)]
        for path in sorted(tmp_path.iterdir())
    ]
    assert raws[0] == raws[1] == raws[2]
    packed = (tmp_path / "a.jsonl.zst").read_bytes()
    (tmp_path / "a.jsonl.zst").write_bytes(packed[: len(packed) // 2])
    *_, last = JsonLinesConfig(path=str(tmp_path / "a.jsonl.zst")).records()
    assert isinstance(last, Reject)
    assert "Truncated" in last.reason


def shard_times(folder: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in folder.glob("shards/*/shard.json")}


@pytest.mark.usefixtures("small_pieces")
def test_added_files_cost_only_themselves(tmp_path: Path) -> None:
    data = tmp_path / "d"
    data.mkdir()
    lines_file(data / "b.jsonl", 300)
    source = JsonLinesConfig(path=str(data))
    stored(source, tmp_path / "s", holdout=0.3)
    before = shard_times(tmp_path / "s")
    more = [json.dumps({"text": f"another {i}"}) for i in range(200)]
    (data / "a.jsonl").write_text("\n".join(more))
    store = stored(source, tmp_path / "s", holdout=0.3)
    after = shard_times(tmp_path / "s")
    assert before.items() <= after.items()
    assert len(after) > len(before)
    assert contents(store) == contents(stored(source, tmp_path / "t", holdout=0.3))
    (data / "b.jsonl").unlink()
    store = stored(source, tmp_path / "s", holdout=0.3)
    assert store.manifest["counts"]["records"] == 200


@pytest.mark.usefixtures("small_pieces")
def test_a_removed_document_is_gone_and_stays_away(tmp_path: Path) -> None:
    data = tmp_path / "d"
    data.mkdir()
    lines_file(data / "a.jsonl", 300)
    source = JsonLinesConfig(path=str(data))
    store = stored(source, tmp_path / "s" / "text", holdout=0.3)
    gone, secret = store.ids("train")[7], store.split("train").document(7)[1:-1]
    store = remove(tmp_path / "s", [gone])["text"]
    assert gone not in store.ids("train") + store.ids("validation")
    assert store.manifest["counts"]["removed"] == 1
    needle = secret.astype(np.uint16).tobytes()
    assert not any(needle in p.read_bytes() for p in (tmp_path / "s").rglob("values.npy"))
    lines_file(data / "b.jsonl", 10)
    assert gone not in stored(source, tmp_path / "s" / "text", holdout=0.3).ids("train")
    with pytest.raises(DataError, match=r"no document .* has the id beef"):
        remove(tmp_path / "s", ["beef"])


KILLED = """
import sys, time
from pathlib import Path
from broadbase.data.store import planning
from broadbase.data.store import shards
from broadbase.data.sources import texts
from broadbase.data.store import workers
from broadbase.data.store.prepare import PrepareConfig, prepare
from broadbase.data.store.requests import StoreRequest
from broadbase.data.sources.json_files import JsonLinesConfig
from broadbase.modalities.text import TextConfig
texts.PIECE, planning.SHARD = 1000, 3000
def slow(tasks, processes):
    for task in tasks:
        shards.write_shard(task)
        print(task.target.name, flush=True)
        time.sleep(0.05)
source = JsonLinesConfig(path=sys.argv[1])
wanted = {"s": StoreRequest(source, TextConfig(vocab_size=300), "text")}
prepare(wanted, Path(sys.argv[2]), PrepareConfig(holdout=0.3), slow)
"""


def test_killed_it_goes_on(tmp_path: Path) -> None:
    lines_file(tmp_path / "a.jsonl", 800)
    words = (KILLED, tmp_path / "a.jsonl")
    process = Program(*words, tmp_path / "x")
    while process.stdout.read_text().count("\n") < 3:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = process.stdout.read_text().split()
    (tmp_path / "x/s/shards/.half.1.draft").mkdir()
    again = run(*words, tmp_path / "x", check=True)
    fresh = run(*words, tmp_path / "y", check=True)
    first, second = set(done), set(again.stdout.split())
    assert not first & second
    assert first | second == set(fresh.stdout.split())
    manifests = [json.loads((tmp_path / n / "s/manifest.json").read_text()) for n in "xy"]
    assert manifests[0] == manifests[1]
    assert not list(tmp_path.rglob("*.draft"))


def test_two_at_once_and_other_settings(tmp_path: Path) -> None:
    source = JsonLinesConfig(path=str(lines_file(tmp_path / "a.jsonl", 100)))
    stored(source, tmp_path / "s", holdout=0.3)
    with preparing._alone(tmp_path), pytest.raises(ConfigError, match="another process"):
        stored(source, tmp_path / "s", holdout=0.3)
    with pytest.raises(ConfigError, match=r"other settings of modality 'text'"):
        prepare({"s": StoreRequest(source, TEXT, "text")}, tmp_path, PrepareConfig(holdout=0.3))


def test_another_column_is_not_taken_for_the_first(tmp_path: Path) -> None:
    """A store of one column is no store of another; where the file lies does not matter."""
    rows = [json.dumps({"a": f"apple {i}", "b": f"banana {i}"}) for i in range(100)]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    source = JsonLinesConfig(path=str(tmp_path / "t.jsonl"), field="a")
    first = stored(source, tmp_path / "s", holdout=0.3)
    with pytest.raises(ConfigError, match=r"s was prepared with other settings .*\(field\)"):
        stored(source.replace(field="b"), tmp_path / "s", holdout=0.3)
    shutil.move(tmp_path / "t.jsonl", tmp_path / "moved.jsonl")
    moved = source.replace(path=str(tmp_path / "moved.jsonl"))
    assert stored(moved, tmp_path / "s", holdout=0.3).fingerprint == first.fingerprint


CLEANED = [
    ("cafÃ© â€” naÃ¯ve", "café — naïve"),
    ("e\u0301te\u0301\r\n", "été\n"),
    ("Größe, ÂµTorrent? déjà vu — Ærøskøbing", "Größe, µTorrent? déjà vu — Ærøskøbing"),
    ("Ελλάδα и Россия 中文", "Ελλάδα и Россия 中文"),
]


@pytest.mark.parametrize(("raw", "wanted"), CLEANED)
def test_text_is_mended(raw: str, wanted: str) -> None:
    assert TEXT.clean(raw) == wanted


@given(st.text())
def test_cleaning_twice_is_cleaning_once(raw: str) -> None:
    assert TEXT.clean(TEXT.clean(raw)) == TEXT.clean(raw)


def test_the_store_reads_no_clock(tmp_path: Path) -> None:
    """The same data give the same manifest at another time."""
    source = JsonLinesConfig(path=str(lines_file(tmp_path / "a.jsonl", 100)))
    one = stored(source, tmp_path / "s", holdout=0.3).manifest
    time.sleep(0.01)
    other = stored(source, tmp_path / "t", holdout=0.3).manifest
    assert one == other


def test_bytes_have_no_near_duplicates(tmp_path: Path) -> None:
    assert BytesConfig().shingles("some words in a row") == ()
    source = JsonLinesConfig(path=str(lines_file(tmp_path / "a.jsonl", 100)))
    assert stored(source, tmp_path / "s", holdout=0.3).manifest["counts"]["near"] == 0


def notes(folder: Path, count: int) -> dict[str, StoreRequest]:
    rng = random.Random(count)
    folder.mkdir(exist_ok=True)
    for i in range(count):
        (folder / f"{i}.txt").write_text(f"{i} " + " ".join(sentence(rng, 60)))
    return {"t": StoreRequest(TextFilesConfig(path=str(folder)), BytesConfig(), "bytes")}


def test_an_unchanged_store_is_not_joined_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, store = notes(tmp_path / "a", 60), tmp_path / "store"
    prepare(wanted, store, PrepareConfig(holdout=0.2))

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("joined again")

    monkeypatch.setattr(preparing, "join", refused)
    prepare(wanted, store, PrepareConfig(holdout=0.2, processes=2))
    with pytest.raises(AssertionError, match="joined again"):
        prepare(wanted, store, PrepareConfig(holdout=0.3))
    shutil.rmtree(next((store / "t").glob("index-*")))
    with pytest.raises(AssertionError, match="joined again"):
        prepare(wanted, store, PrepareConfig(holdout=0.2))


def test_shards_made_by_a_try_that_was_killed_are_joined(tmp_path: Path) -> None:
    wanted, store = notes(tmp_path / "a", 60), tmp_path / "store"
    config = PrepareConfig(holdout=0.2)
    before = prepare(wanted, store, config)[0]["t"].manifest["counts"]
    (tmp_path / "a" / "new.txt").write_text("one more, unlike all the others")

    def killed(tasks: object, processes: int) -> None:
        preparing.run_here(tasks, processes)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(wanted, store, config, killed)
    after = prepare(wanted, store, config)[0]["t"].manifest["counts"]
    assert after["records"] == before["records"] + 1


def test_a_flipped_byte_is_detected_and_its_shard_made_again(tmp_path: Path) -> None:
    wanted, store = notes(tmp_path / "a", 60), tmp_path / "store"
    before = contents(prepare(wanted, store, PrepareConfig(holdout=0.2))[0]["t"])
    (values,) = store.glob("t/shards/*/values.npy")
    flipped = bytearray(values.read_bytes())
    flipped[-1] ^= 1
    values.write_bytes(flipped)
    with pytest.raises(DataError, match=rf"altered.*delete {values.parent} and prepare"):
        open_store(store / "t", verify=True)
    assert contents(prepare(wanted, store, PrepareConfig(holdout=0.2))[0]["t"]) == before


def test_a_store_within_its_own_data_is_refused(tmp_path: Path) -> None:
    """Where its files would be read as data; beside texts it may lie."""
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "a.txt").write_text("three words here\n" * 9)
    lines = {"x": StoreRequest(JsonLinesConfig(path=str(tmp_path)), BytesConfig(), "bytes")}
    with pytest.raises(ConfigError, match="lies in the data"):
        prepare(lines, tmp_path / "runs" / "store")
    assert not (tmp_path / "runs").exists()
    texts = {"x": StoreRequest(TextFilesConfig(path=str(tmp_path)), BytesConfig(), "bytes")}
    with contextlib.suppress(DataError):  # one text leaves a side empty
        prepare(texts, tmp_path / "runs" / "store")
    assert (tmp_path / "runs" / "store").exists()


def test_a_store_of_the_format_before_is_refused_and_made_again(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i}.txt").write_text(f"text {i}")
    source = TextFilesConfig(path=str(tmp_path), pattern="*.txt")
    store = stored(source, tmp_path / "of" / "s", holdout=0.3)
    (shard,) = (store.folder / "shards").iterdir()
    facts = json.loads((shard / "shard.json").read_text())
    for new, old in (("origins.npy", "places.npy"), ("origin_ends.npy", "place_ends.npy")):
        (shard / new).rename(shard / old)
        facts["hashes"][old] = facts["hashes"].pop(new)
    (shard / "shard.json").write_text(json.dumps(facts))
    manifest = {**store.manifest, "format": 3}
    (store.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="format 3, this program reads format 4; prepare the data"):
        open_store(store.folder)
    again = stored(source, tmp_path / "of" / "s", holdout=0.3)
    assert again.fingerprint == store.fingerprint
    assert (shard / "origins.npy").exists()
    assert not (shard / "places.npy").exists()
