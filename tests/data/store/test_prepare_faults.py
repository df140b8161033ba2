"""What data can do to `prepare`, and what damage to a store: never a traceback, nothing lost."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.core.sources import SourceChunk, SourceConfig
from broadbase.data.sources.json_files import JsonLinesConfig
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.data.store import planning
from broadbase.data.store.codecs import training_records
from broadbase.data.store.planning import plan
from broadbase.data.store.prepare import PrepareConfig, prepare, remove
from broadbase.data.store.requests import Snapshot, StoreRequest
from broadbase.data.store.split import in_common, numbers_of, threshold
from broadbase.data.store.store import Store, open_store
from broadbase.modalities import strings
from broadbase.modalities.bytes import BytesConfig
from broadbase.modalities.source_code import CodeConfig
from broadbase.modalities.text import TextConfig
from support.stores import stored

BYTES, TEXT, CODE = BytesConfig(), TextConfig(vocab_size=300), CodeConfig(vocab_size=300)


def rows(path: Path, count: int, word: str = "line") -> Path:
    lines = [json.dumps({"text": f"{word} number {i:04}"}) for i in range(count)]
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def texts(folder: Path, *contents: str) -> TextFilesConfig:
    folder.mkdir(exist_ok=True)
    for i, content in enumerate(contents):
        (folder / f"{i}.txt").write_text(content)
    return TextFilesConfig(path=str(folder))


def counts(store: Store) -> Mapping[str, int]:
    result: Mapping[str, int] = store.manifest["counts"]
    return result


def test_a_shard_without_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file of which nothing can be used leaves the others' documents as they are."""
    monkeypatch.setattr(planning, "SHARD", 1000)
    rows(tmp_path / "d" / "b.jsonl", 300)
    noise = random.Random(0).randbytes(40_000).hex()
    packed = gzip.compress(json.dumps({"text": noise}).encode())
    (tmp_path / "d" / "a.jsonl.gz").write_bytes(packed[:-9])
    source = JsonLinesConfig(path=str(tmp_path / "d"))
    store = stored(source, tmp_path / "s", holdout=0.3, rejects=1)
    assert counts(store)["train"] + counts(store)["validation"] == 300
    assert counts(store)["rejected"] == 1
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: truncated"):  # by its bytes
        stored(source, tmp_path / "t", holdout=0.3)
    assert "bytes cannot be used" in str(_error(lambda: stored(source, tmp_path / "t")))


def _error(work: object) -> BaseException:
    with pytest.raises(BroadbaseError) as caught:
        work()  # type: ignore[operator]
    return caught.value


def test_a_source_without_documents_says_why(tmp_path: Path) -> None:
    source = texts(tmp_path / "d", " \n", "", "\n\n")
    with pytest.raises(DataError, match=r"no record that can be used, of 3\n.*0\.txt: empty"):
        stored(source, tmp_path / "s")


@pytest.mark.parametrize("holdout", [0.001, 0.05, 0.5, 0.999])
def test_two_records_are_one_on_each_side(tmp_path: Path, holdout: float) -> None:
    source = texts(tmp_path / "d", "one text", "and another")
    store = stored(source, tmp_path / "s", holdout=holdout)
    assert (counts(store)["train"], counts(store)["validation"]) == (1, 1)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9), st.floats(0.001, 0.999))
def test_no_side_is_empty_and_none_moves_without_need(numbers: list[int], share: float) -> None:
    some = np.array(numbers, np.uint64)
    held = some < threshold(some, share)
    if len(set(numbers)) > 1:
        assert held.any()
        assert not held.all()
    fixed = some < np.uint64(min(share * 2.0**64, 2.0**64 - 2048))
    if fixed.any() and not fixed.all():
        assert (held == fixed).all()
    else:
        assert len(set(some[held != fixed].tolist())) <= 1


def test_pairs_hold_out_a_record_that_both_have() -> None:
    ids = np.random.default_rng(0).integers(0, 256, (6, 16)).astype(np.uint8)
    result = in_common({"a": ids[:4], "b": ids[1:4], "c": ids[4:]})
    assert set(result["a"].tolist()) == set(result["b"].tolist()) == set(numbers_of(ids[1:4]))
    assert set(result["c"].tolist()) == set(numbers_of(ids[4:]))


@pytest.mark.parametrize(
    "modality", [BYTES, TEXT, CodeConfig(vocab_size=300)], ids=lambda m: m.name
)
def test_a_single_text_is_cut_at_a_line(tmp_path: Path, modality: BytesConfig) -> None:
    rng = random.Random(0)
    lines = [" ".join(f"w{rng.randrange(50)}" for _ in range(8)) + "\n" for _ in range(300)]
    source = texts(tmp_path / "d", "".join(lines))
    made, codecs = prepare(
        {"s": StoreRequest(source, modality, "m")}, tmp_path / "s", PrepareConfig()
    )
    head, tail = (made["s"].split(side) for side in ("train", "validation"))
    decoded = [
        codecs["m"].decode(split.piece(0, 1, int(split.lengths[0])), ()) for split in (head, tail)
    ]
    assert "".join(decoded) == "".join(lines)
    assert decoded[0].endswith("\n")
    assert 0.03 < len(decoded[1]) / len("".join(lines)) < 0.08
    assert [head.units, tail.units] == [len(text.encode()) for text in decoded]
    assert made["s"].ids("train") == made["s"].ids("validation")  # of the record, to remove it by


def test_a_record_of_one_letter_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one record alone .* takes at least two"):
        stored(texts(tmp_path / "d", "x"), tmp_path / "s")


def test_one_group_alone_says_so(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"row {i}", "by": "me"}) for i in range(30)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    source = JsonLinesConfig(path=str(tmp_path / "a.jsonl"), group="by")
    with pytest.raises(DataError, match=r"all 30 records .* are of one group"):
        stored(source, tmp_path / "s")


def test_codecs_of_small_sets_are_fitted_on_the_training_side(tmp_path: Path) -> None:
    for n in range(1, 9):
        source = texts(tmp_path / f"{n}", *(f"a text of its own, {i * n}" for i in range(n)))
        wanted = [StoreRequest(source, BYTES, "b")]
        fitted = list(training_records(wanted, 0.05))
        assert len(fitted) == max(1, n - 1)


def test_a_failed_first_try_does_not_block_the_second(tmp_path: Path) -> None:
    lines = [json.dumps({"word": f"w{i}", "meaning": f"the meaning of {i}"}) for i in range(60)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    wrong = JsonLinesConfig(path=str(tmp_path / "t.jsonl"))
    right = wrong.replace(field="meaning")

    def made(source: SourceConfig, vocabulary: int = 300) -> Store:
        modality = TextConfig(vocab_size=vocabulary)
        wanted = {"s": StoreRequest(source, modality, "text")}
        return prepare(wanted, tmp_path / "s", PrepareConfig(holdout=0.3))[0]["s"]

    with pytest.raises(DataError, match="no field `text`"):
        made(wrong)
    assert counts(made(right))["records"] == 60
    vocabulary = json.loads((tmp_path / "s/s/codec/tokenizer.json").read_text())["model"]["vocab"]
    assert len(vocabulary) > 258  # not the one that was fitted on nothing
    with pytest.raises(ConfigError, match=r"other settings of its source \(field\); give the same"):
        made(wrong)
    with pytest.raises(ConfigError, match="other settings of modality"):
        made(right, 301)


def damages() -> list[bytes]:
    deep = b"[" * 100_000
    return [b"", b"{", b"{}", b"[]", b"null", b"5", b'"x"', b"\xff\xfe", deep, b'{"format": "3"}']


@pytest.mark.parametrize("damage", damages(), ids=range(len(damages())))
def test_damaged_bookkeeping(tmp_path: Path, damage: bytes) -> None:
    """Made anew, or an error that names the file and the remedy, which then helps."""
    source = JsonLinesConfig(path=str(rows(tmp_path / "a.jsonl", 40)))

    def made() -> str:
        wanted = {"s": StoreRequest(source, TextConfig(vocab_size=260), "text")}
        return prepare(wanted, tmp_path / "s", PrepareConfig(holdout=0.3))[0]["s"].fingerprint

    before = made()
    names = [path for path in (tmp_path / "s").rglob("*.json*") if path.name != "tokenizer.json"]
    assert len(names) == 9
    for path in names:
        path.write_bytes(damage)
        if path.name == "manifest.json":
            with pytest.raises(DataError, match=r"manifest\.json .*again"):
                open_store(path.parent)
        if path.name in ("source.json", "modality.json"):  # nothing else says the same
            with pytest.raises(BroadbaseError, match=rf"{path.parent}.* delete ") as caught:
                made()
            assert isinstance(caught.value, DataError | ConfigError), path
            shutil.rmtree(path.parent if path.name == "modality.json" else tmp_path / "s")
        assert made() == before


@pytest.mark.parametrize("name", ["manifest.json", "../settings.json", "duplicates.jsonl"])
def test_remove_from_a_damaged_store(tmp_path: Path, name: str) -> None:
    source = JsonLinesConfig(path=str(rows(tmp_path / "a.jsonl", 40)))
    store = stored(source, tmp_path / "s" / "x", holdout=0.3)
    (tmp_path / "s" / "x" / name).write_text("[5]")
    with pytest.raises(DataError, match="damaged"):
        remove(tmp_path / "s", store.ids("train")[:1])
    assert not (tmp_path / "s" / "removed.json").exists()


def test_removing_again_is_right_and_counted(tmp_path: Path) -> None:
    source = JsonLinesConfig(path=str(rows(tmp_path / "a.jsonl", 40)))
    store = stored(source, tmp_path / "s" / "x", holdout=0.3)
    *gone, other = store.ids("train")[:3]
    assert "2 removed" in remove(tmp_path / "s", gone)["x"].summary()
    assert "2 removed" in remove(tmp_path / "s", gone)["x"].summary()
    with pytest.raises(DataError, match=r"no document .* has the id beef"):
        remove(tmp_path / "s", [other, "beef"])
    assert sorted(gone) == json.loads((tmp_path / "s" / "removed.json").read_text())


def test_a_copy_that_a_user_made_stays(tmp_path: Path) -> None:
    source = JsonLinesConfig(path=str(rows(tmp_path / "a.jsonl", 40)))
    stored(source, tmp_path / "s", holdout=0.3)
    (shard,) = (tmp_path / "s" / "shards").iterdir()
    shutil.copytree(shard, copy := shard.with_name(f"{shard.name}.bak"))
    stored(source, tmp_path / "s", holdout=0.3)
    assert (copy / "shard.json").exists()


def test_a_file_name_that_is_no_utf8(tmp_path: Path) -> None:
    source = texts(tmp_path / "d", *(f"a text {i}" for i in range(20)), "a text 3")
    for name, text in ((b"caf\xe9.txt", "a name in latin-1"), (b"caf\xe8.txt", "a text 3")):
        (tmp_path / "d" / os.fsdecode(name)).write_text(text)
    store = stored(source, tmp_path / "s", holdout=0.3)
    assert counts(store)["records"] == 23
    assert counts(store)["exact"] == 2
    assert len(stored(source, tmp_path / "s", holdout=0.3).manifest["files"]) == 23


def test_half_a_character_is_a_reject(tmp_path: Path) -> None:
    path = rows(tmp_path / "a.jsonl", 120)
    with path.open("a") as file:
        file.write(json.dumps({"text": "half an emoji \ud83d here"}) + "\n")
    for modality in (TEXT, BYTES):
        wanted = {"s": StoreRequest(JsonLinesConfig(path=str(path)), modality, "m")}
        store = prepare(wanted, tmp_path / modality.name, PrepareConfig(holdout=0.3))[0]["s"]
        assert counts(store)["rejected"] == 1
        (line,) = (store.folder / "rejected.jsonl").read_text().splitlines()
        assert "a.jsonl:121" in line
        assert "U+D83D" in line


def test_rejects_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"row {i}" + "\ud83d" * (i % 3 == 0)}) for i in range(60)]
    lines[30] = "{"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    stored(JsonLinesConfig(path=str(tmp_path / "a.jsonl")), tmp_path / "s", holdout=0.3, rejects=1)
    result = [
        json.loads(r)["origin"]
        for r in (tmp_path / "s/rejected.jsonl").read_text().split("\n")[:-1]
    ]
    numbers = [int(place.rpartition(":")[2]) for place in result]
    assert numbers == sorted(numbers)
    assert 31 in numbers


@pytest.mark.parametrize("modality", [TEXT, CODE], ids=["text", "code"])
@pytest.mark.parametrize("sign", [" ", "\n", "\t", "a", "=", "_", "7"])
def test_a_word_of_a_million(modality: TextConfig, sign: str) -> None:
    """Encoded as any other; the tokenizer is fitted in a time that does not go with its square."""
    text = f"x{sign * 1_000_001}y"
    codec = modality.fit(["the cat " * 50, text])
    sample = codec.encode(text)
    assert codec.decode(sample.values, ()) == text
    assert sample.units == len(text)


@settings(max_examples=50, deadline=None)
@given(st.text(" \nab1=\u00e9\u4e2d", max_size=200), st.integers(2, 20))
def test_chunks_encode_as_the_complete(text: str, step: int) -> None:
    """Chunks are all of the text, none is cut again; cut before a blank, words stay whole."""
    before, strings.STEP = strings.STEP, step
    try:
        chunks = list(strings.chunks(text))
        again = [list(strings.chunks(chunk)) for chunk in chunks]
    finally:
        strings.STEP = before
    assert "".join(chunks) == text
    assert again == [[chunk] for chunk in chunks]
    codec = CODECS["text"]
    if all(chunk[:1] in (" ", "\n") for chunk in chunks[1:]):
        ids = np.concatenate([codec.encode(chunk).values for chunk in chunks])
        assert ids.tolist() == codec.encode(text).values.tolist()


CODECS = {"text": TEXT.fit(["the cat sat on the mat, 1 = 1\n" * 20])}


def test_a_long_record_is_one_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoded chunk by chunk it is what it would be at once."""
    long = " ".join(f"word{i * i % 997}" for i in range(3000))
    source = texts(tmp_path / "d", long, *(f"a text {i}" for i in range(20)))
    wanted = {"s": StoreRequest(source, TEXT, "text")}
    full = prepare(wanted, tmp_path / "s", PrepareConfig(holdout=0.3))[0]["s"]
    monkeypatch.setattr(strings, "STEP", 500)
    shutil.copytree(tmp_path / "s/s/codec", tmp_path / "t/s/codec")
    cut = prepare(wanted, tmp_path / "t", PrepareConfig(holdout=0.3))[0]["s"]
    assert cut.fingerprint == full.fingerprint
    for side in ("train", "validation"):
        one, other = full.split(side), cut.split(side)
        assert (one.lengths == other.lengths).all()
        assert (one.units_each == other.units_each).all()
        for i in range(len(one)):
            assert (one.document(i) == other.document(i)).all()


def test_many_parts_are_grouped_in_linear_time() -> None:
    parts = [(SourceChunk(f"{i}", 100), "x") for i in range(100_000)]
    groups = list(planning._groups(parts))
    assert [len(group) for group in groups[:-1]] == [planning.PARTS] * (len(groups) - 1)
    assert sum(map(len, groups)) == 100_000


def test_a_shard_of_another_codec_is_made_again(tmp_path: Path) -> None:
    source = JsonLinesConfig(path=str(rows(tmp_path / "a.jsonl", 40)))
    wanted = StoreRequest(source, TextConfig(vocab_size=260), "text")
    prepare({"s": wanted}, tmp_path, PrepareConfig(holdout=0.3))
    assert not plan(Snapshot.of(wanted, {}), tmp_path / "s")
    (tmp_path / "s" / "codec" / "tokenizer.json").write_text("{}")
    assert len(plan(Snapshot.of(wanted, {}), tmp_path / "s")) == 1
