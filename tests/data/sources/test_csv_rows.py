"""Rows: every one is a record, a reject or empty, whatever is planted between them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.data.sources.json_files import JsonConfig, JsonLinesConfig
from broadbase.data.sources.sequences import SmilesFilesConfig
from broadbase.data.sources.tables import ArrowConfig, CsvConfig, ParquetConfig
from broadbase.data.sources.texts import EncodedConfig, TextFilesConfig
from support.mutated import packed_zst
from support.stores import stored

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": packed_zst,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
GOOD, BAD, EMPTY = "good", "bad", "empty"
Row = tuple[str, bytes]
fields = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(
    lambda text: bool(text.strip())
)


def seen(source: SourceConfig) -> list[str]:
    kinds = {True: EMPTY, False: BAD}
    return [GOOD if isinstance(item, Record) else kinds[item.empty] for item in source.records()]


def line_of(item: Record | Reject) -> int:
    return int(item.origin.rpartition(":")[2])


def csv_row(text: str, label: str) -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow([text, label])
    return out.getvalue().encode()


csv_rows = st.one_of(
    fields.map(lambda text: (GOOD, csv_row(text, "a"))),
    st.just((GOOD, b"plain,a\n")),
    st.just((GOOD, b'it is 5" wide,a\n')),
    st.just((EMPTY, b" ,a\n")),
    st.just((BAD, b"caf\xe9,a\n")),
    st.just((BAD, b'"caf\xe9 ""x""",a\n')),
    st.just((BAD, b"no second field\n")),
    st.just((BAD, b"one,two,three\n")),
    st.just((BAD, b"nul\0byte,a\n")),
    st.just((BAD, b'"said \\"hi\\" there",a\n')),
)
json_rows = st.one_of(
    fields.map(lambda text: (GOOD, json.dumps({"text": text}).encode())),
    fields.map(lambda text: (GOOD, json.dumps({"text": text}, ensure_ascii=False).encode())),
    st.just((EMPTY, b'{"text": null}')),
    st.just((EMPTY, b'{"text": "  "}')),
    st.just((BAD, b'{"text": "a", "text": "b"}')),
    st.just((BAD, b'{"text": "caf\xe9"}')),
    st.just((BAD, b'{"text": "cut')),
    st.just((BAD, b'{"txt": "other"}')),
    st.just((BAD, b"[1]")),
    st.just((BAD, b'{"text": 3}')),
)


def check_rows(source: SourceConfig, kinds: list[str], lines: list[int]) -> None:
    items = list(source.records())
    assert seen(source) == kinds
    assert [line_of(item) for item in items] == lines


@settings(max_examples=40, deadline=None)
@given(st.lists(csv_rows, min_size=1, max_size=30), st.sampled_from(sorted(PACK)))
def test_csv_accounts_for_every_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], pack: str
) -> None:
    check_csv(tmp_path_factory.mktemp("c"), rows, pack)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(st.lists(csv_rows, min_size=1, max_size=40), st.sampled_from(sorted(PACK)))
def test_csv_accounts_for_every_row_of_many_files(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], pack: str
) -> None:
    check_csv(tmp_path_factory.mktemp("c"), rows, pack)


def check_csv(folder: Path, rows: list[Row], pack: str) -> None:
    """Each row is named by its first line; within quotes there are line ends of any system."""
    data, lines, at = b"text,label\n", [], 2
    for _, row in rows:
        lines.append(at)
        at += row.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n")
        data += row
    (folder / f"a.csv{pack}").write_bytes(PACK[pack](data))
    check_rows(CsvConfig(path=str(folder), label="label"), [k for k, _ in rows], lines)


@settings(max_examples=40, deadline=None)
@given(st.lists(json_rows, min_size=1, max_size=30), st.sampled_from(sorted(PACK)))
def test_json_lines_account_for_every_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], pack: str
) -> None:
    folder = tmp_path_factory.mktemp("j")
    data = b"".join(row + b"\n" for _, row in rows)
    (folder / f"a.jsonl{pack}").write_bytes(PACK[pack](data))
    lines = list(range(1, len(rows) + 1))
    check_rows(JsonLinesConfig(path=str(folder)), [kind for kind, _ in rows], lines)


OPEN = st.sampled_from([b'"never closed,a\n', b'fine,"never closed\n', b'"two\n', b'a,b"c\n'])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(csv_rows.map(lambda row: row[1]), OPEN), min_size=1, max_size=20))
def test_an_open_quote_costs_no_row_unsaid(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes]
) -> None:
    """Rows without quotes are kept, or lie between two stray quotes, or are counted as lost."""
    folder = tmp_path_factory.mktemp("o")
    plain = [b"sure %d,a\n" % i for i in range(len(rows) + 1)]
    pieces = [piece for pair in zip(plain, [*rows, b""], strict=True) for piece in pair]
    (folder / "a.csv").write_bytes(b"text,label\n" + b"".join(pieces))
    items = list(CsvConfig(path=str(folder)).records())
    kept = Counter(item.raw for item in items if isinstance(item, Record))
    lost = {
        line
        for item in items
        if isinstance(item, Reject) and item.lost
        for line in range(line_of(item), line_of(item) + int(lines_after(item)) + 1)
    }
    at = 2
    for piece in pieces:
        if piece.startswith(b"sure"):
            text = piece.decode().strip()
            inside = any(text in raw for raw in kept if "\n" in raw)
            assert inside or at in lost or kept[text.removesuffix(",a")] == 1
        at += piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n")


def lines_after(item: Reject) -> str:
    result = re.search(r"the (\d+) lines after it are lost", item.reason)
    assert result is not None
    return result[1]


def test_a_last_row_that_is_cut_short(tmp_path: Path) -> None:
    """Its lines are no rows by themselves, so none of them becomes one."""
    rows = [csv_row(f"text {i}, of\ntwo lines", "x") for i in range(100)]
    poem = csv_row("a first line\nand a second, with a comma\n\nan end", "x")
    (tmp_path / "a.csv").write_bytes(b"text,label\n" + b"".join(rows) + poem[:-8])
    *good, last = CsvConfig(path=str(tmp_path)).records()
    assert len(good) == 100
    assert isinstance(last, Reject)
    assert line_of(last) == 202
    assert 25 < last.lost < 50


@pytest.mark.parametrize("columns", [1, 2])
def test_a_quote_that_is_never_closed(tmp_path: Path, columns: int) -> None:
    end = ",x\n" if columns == 2 else "\n"
    rows = [f"row {i} of some words{end}" for i in range(3000)]
    rows[1000] = '"' + rows[1000]
    (tmp_path / "a.csv").write_text(("text,label\n" if columns == 2 else "text\n") + "".join(rows))
    store = stored(CsvConfig(path=str(tmp_path)), tmp_path / "s", holdout=0.1, similarity=1.0)
    counts = store.manifest["counts"]
    assert (counts["records"], counts["rejected"], counts["empty"]) == (3000, 1, 0)
    (row,) = map(json.loads, (store.folder / "rejected.jsonl").read_text().splitlines())
    assert row["origin"].endswith("a.csv:1002")
    assert "never closed" in row["reason"]


def test_two_stray_quotes_far_apart(tmp_path: Path) -> None:
    """The rows between them look like rows, so they are none of a field's lines."""
    rows = [f"row {i},x\n" for i in range(40)]
    rows[5], rows[30] = '"row 5,x\n', 'row 30",x\n'
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(rows))
    result = list(CsvConfig(path=str(tmp_path)).records())
    (bad,) = [item for item in result if isinstance(item, Reject)]
    assert line_of(bad) == 7
    assert "rows of 2 fields" in bad.reason
    assert len(result) == 40
    poem = "\n".join(["a line, and another"] * 5 + ["a line without"] * 20)
    (tmp_path / "a.csv").write_bytes(b"text,label\n" + csv_row(poem, "x") + b"fine,y\n")
    assert seen(CsvConfig(path=str(tmp_path))) == [GOOD, GOOD]


HEADERS = {
    "spaces": ("id, text, label\n1,a,x\n", ["a"]),
    "semicolons": ("text;label\na, b;x\n", ["a, b"]),
    "tabs": ("text\tlabel\na, b\tx\n", ["a, b"]),
    "sep=": ("sep=;\ntext;label\na;x\n", ["a"]),
    "mark": ("\ufefftext,label\na,x\n", ["a"]),
    "old Mac": ("text,label\ra,x\rb,y\r", ["a", "b"]),
    "Windows": ('text,label\r\n"a\r\nb",x\r\n', ["a\r\nb"]),
    "no last end": ("text,label\na,x", ["a"]),
    "twice, not read": ("text,,\na,,\n", ["a"]),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_as_people_write_them(tmp_path: Path, name: str) -> None:
    text, raws = HEADERS[name]
    (tmp_path / "a.csv").write_bytes(text.encode())
    items = list(CsvConfig(path=str(tmp_path)).records())
    assert (
        [item.raw for item in items if isinstance(item, Record)]
        == raws
        == [item.raw for item in items]
    )  # type: ignore[union-attr]


def test_a_table_without_header_or_in_other_marks(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("one\tfirst\ntwo\tsecond\n")
    plain = CsvConfig(path=str(tmp_path))
    (bad,) = plain.records()
    assert isinstance(bad, Reject)
    assert "no field `text`" in bad.reason
    named = CsvConfig(path=str(tmp_path), names=("word", "text"))
    assert [r.raw for r in named.records() if isinstance(r, Record)] == ["first", "second"]
    (tmp_path / "a.tsv").write_text('text\tlabel\n"he said \\"hi\\""\tx\n')
    (bad,) = plain.records()
    assert isinstance(bad, Reject)
    assert "`escape`" in bad.reason
    escaped = CsvConfig(path=str(tmp_path), escape="\\")
    assert [r.raw for r in escaped.records() if isinstance(r, Record)] == ['he said "hi"']
    names = "\t".join(f"a column of a long name {i:020d}" for i in range(50))
    (tmp_path / "a.tsv").write_text(names + "\n" + "\t" * 49)
    (bad,) = plain.records()
    assert isinstance(bad, Reject)
    assert "and 42 more" in bad.reason
    assert len(bad.reason) < 400


def test_a_column_twice(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label,label\na,right,wrong\n")
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as stream:
        stream.write_table(table)
    sources = CsvConfig(path=str(tmp_path), label="label"), ParquetConfig(path=str(tmp_path))
    for source in (*sources, ArrowConfig(path=str(tmp_path))):
        (only,) = source.records()
        assert isinstance(only, Reject)
        assert "twice" in only.reason
        assert only.lost == source.parts()[0].size
    assert seen(CsvConfig(path=str(tmp_path))) == [GOOD]


def test_other_encodings(tmp_path: Path) -> None:
    kinds: dict[str, tuple[type[EncodedConfig], str]] = {
        "a.csv": (CsvConfig, "text\ncafé\n"),
        "a.jsonl": (JsonLinesConfig, '{"text": "café"}\n'),
        "a.txt": (TextFilesConfig, "café"),
    }
    for name, (kind, text) in kinds.items():
        for encoding in ("latin-1", "utf-16", "shift-jis", "utf-8-sig"):
            own = text if encoding != "shift-jis" else text.replace("é", "ー")
            (tmp_path / name).write_bytes(own.encode(encoding))
            (record,) = kind(path=str(tmp_path), encoding=encoding).records()
            assert isinstance(record, Record)
            assert record.raw.strip() in ("café", "cafー")
        (tmp_path / name).write_bytes(text.encode("latin-1"))
        (bad,) = kind(path=str(tmp_path)).records()
        assert isinstance(bad, Reject)
        assert "`encoding`" in bad.reason
        assert "iconv" in bad.reason
    with pytest.raises(ConfigError, match="no encoding is called 'latin-99'"):
        SourceConfig.from_tree({"name": "csv", "path": ".", "encoding": "latin-99"})


MISSING = [None, float("nan"), "", "  "]


@pytest.mark.parametrize("column", ["label", "key", "group"])
def test_what_is_missing_is_no_word(tmp_path: Path, column: str) -> None:
    rows = [{"text": f"text {i}", "x": value} for i, value in enumerate([*MISSING, "a", 1, 1.0])]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"text": "none"}\n')
    items = list(JsonLinesConfig(path=str(tmp_path / "a.jsonl"), **{column: "x"}).records())  # type: ignore[arg-type]
    result = [getattr(item, column) for item in items]
    nothing = {"label": None, "group": ""}
    missing = [nothing.get(column, f":{i}") for i in (1, 2, 3, 4)]
    assert result == [*missing, "a", "1", "1", nothing.get(column, ":8")]


def test_missing_values_of_parquet_and_csv(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": None}, {"text": None, "label": "y"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("text,label\na,x\nb,\n ,y\n")
    for source in (ParquetConfig, CsvConfig):
        items = list(source(path=str(tmp_path), label="label").records())
        assert [getattr(item, "label", "-") for item in items] == ["x", None, "-"]
        assert [isinstance(item, Reject) and item.empty for item in items] == [False, False, True]


def test_json_files_of_three_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    source = JsonConfig(path=str(path))
    path.write_text('[{"text": "a"},\n {"text": ""}, {"text": "b"}, 3]\n')
    assert seen(source) == [GOOD, EMPTY, GOOD, BAD]
    path.write_text('{"text": "a"}\n\n{"text": "b"}\n{"text"')
    assert seen(source) == [GOOD, GOOD, BAD]
    path.write_text('{"text": "a"}')
    assert seen(source) == [GOOD]
    path.write_text(" [ ] ")
    assert seen(source) == [EMPTY]
    full = json.dumps([{"text": f"text {i}"} for i in range(100)])
    for cut in (len(full) // 2, len(full) - 1):
        path.write_text(full[:cut])
        *_, last = source.records()
        assert isinstance(last, Reject)
        assert abs(last.lost - (cut - full[:cut].rindex("}"))) < 3
    path.write_text(full + "x")
    assert seen(source) == [GOOD] * 100 + [BAD]


def test_a_column_within_another(tmp_path: Path) -> None:
    rows = [{"meta": {"title": f"t{i}", "tags": ["x", "y"]}} for i in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for source in (JsonLinesConfig, ParquetConfig):
        result = source(path=str(tmp_path), field="meta.title", label="meta.tags.1").records()
        assert [(r.raw, r.label) for r in result if isinstance(r, Record)] == [
            (f"t{i}", "y") for i in range(3)
        ]


def test_a_cut_file_counts_by_its_bytes(tmp_path: Path) -> None:
    data = tmp_path / "d"
    data.mkdir()
    good = "".join(json.dumps({"text": f"small {i}"}) + "\n" for i in range(300))
    (data / "small.jsonl").write_text(good)
    many = "".join(json.dumps({"text": f"row {i}"}) + "\n" for i in range(20_000))
    (data / "big.jsonl.gz").write_bytes(gzip.compress(many.encode())[:-20])
    with pytest.raises(DataError, match=r"bytes cannot be used.*\n.*big\.jsonl\.gz"):
        stored(JsonLinesConfig(path=str(data)), tmp_path / "s", holdout=0.3)
    store = stored(JsonLinesConfig(path=str(data)), tmp_path / "s", holdout=0.3, rejects=1.0)
    assert store.manifest["counts"]["records"] == 301


def test_many_equal_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array(["same"] * 20_000)}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 2000
    result = Counter(type(item) for item in ParquetConfig(path=str(tmp_path)).records())
    assert result == {Record: 20_000}


def test_the_share_of_an_arrow_file_that_is_lost(tmp_path: Path) -> None:
    rows = [{"text": f"row {i} " + "word " * 20} for i in range(1000)]
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as stream:
        stream.write_table(table, max_chunksize=50)
    full = (tmp_path / "a.arrow").read_bytes()
    (tmp_path / "a.arrow").write_bytes(full[: len(full) * 3 // 4])
    *records, last = ArrowConfig(path=str(tmp_path)).records()
    assert isinstance(last, Reject)
    assert 700 <= len(records) <= 760
    assert last.lost < len(full) // 10


def test_line_kinds_go_on_after_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_bytes(b"CCO\nC\xe9C\nCCN\n")
    result = list(SmilesFilesConfig(path=str(tmp_path)).records())
    assert [line_of(item) for item in result] == [1, 2, 3]
    assert [isinstance(item, Record) for item in result] == [True, False, True]
