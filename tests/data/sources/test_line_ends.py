"""Files as other systems write them: CR alone at the ends of lines, UTF-16, other endings."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.data.detect import detect
from broadbase.data.sources.json_files import JsonLinesConfig
from broadbase.data.sources.sequences import SdfConfig, SmilesFilesConfig
from broadbase.data.sources.tables import CsvConfig
from broadbase.data.sources.texts import LinesConfig, TextFilesConfig

MOLECULE = """
  Broadbase

  2  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0
    1.5000    0.0000    0.0000 O   0  0
  1  2  1  0
M  END
"""


def texts(source: SourceConfig) -> list[str]:
    result = list(source.records())
    assert all(isinstance(item, Record) for item in result), result
    return [item.raw for item in result if isinstance(item, Record)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(tmp_path: Path, end: str) -> None:
    (tmp_path / "a.smi").write_bytes(end.join(["CCO one", "CCN two", "", "C"]).encode())
    assert texts(SmilesFilesConfig(path=str(tmp_path))) == ["CCO", "CCN", "C"]
    rows = end.join(['{"text": "a\\rb"}', '{"text": "b"}', ""])
    (tmp_path / "a.jsonl").write_bytes(rows.encode())
    assert texts(JsonLinesConfig(path=str(tmp_path))) == ["a\rb", "b"]
    (tmp_path / "a.sdf").write_bytes(f"{MOLECULE}$$$$\n{MOLECULE}".replace("\n", end).encode())
    assert texts(SdfConfig(path=str(tmp_path))) == ["CO", "CO"]


@pytest.mark.parametrize("name", ["a.mol", "a.sd", "a.SDF"])
def test_molecules_by_other_endings(tmp_path: Path, name: str) -> None:
    assert SdfConfig(path=str(tmp_path)).wants(name)


def test_a_table_by_any_of_its_endings(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"]})
    feather.write_feather(table, str(tmp_path / "a.feather"))
    parquet.write_table(table, str(tmp_path / "b.pq"))
    (tmp_path / "c.jsonlines").write_text('{"text": "a"}\n{"text": "b"}\n')
    result = detect(str(tmp_path), TextFilesConfig(path=str(tmp_path)))
    assert [texts(source) for source in result] == [["a", "b"]] * 3


def test_a_table_of_utf_16_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("text,label\na,b\n".encode("utf-16"))
    source = CsvConfig(path=str(tmp_path))
    (result,) = source.records()
    assert isinstance(result, Reject)
    assert "UTF-16; set the source's `encoding` to utf-16" in result.reason
    (row,) = source.replace(encoding="utf-16").records()
    assert isinstance(row, Record)
    assert row.raw == "a"


def test_a_source_that_cannot_read_a_line_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract method"):
        LinesConfig(path="lines.txt")  # type: ignore[abstract]
