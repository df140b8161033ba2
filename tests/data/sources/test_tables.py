"""Tables as sources: the same rows from every format; what is broken is said where."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.data.sources.tables import ArrowConfig, CsvConfig, ParquetConfig

ROWS = [{"text": f'row "{i}",\nsecond line', "label": i % 3} for i in range(700)]


def written(folder: Path, rows: int = len(ROWS)) -> dict[str, SourceConfig]:
    table = pa.Table.from_pylist(ROWS)[:rows]
    pyarrow.csv.write_csv(table, folder / "a.csv")
    pq.write_table(table, folder / "a.parquet", row_group_size=100)
    with pa.ipc.new_stream(str(folder / "stream.arrow"), table.schema) as stream:
        stream.write_table(table, max_chunksize=50)
    return {
        "csv": CsvConfig(path=str(folder), label="label"),
        "parquet": ParquetConfig(path=str(folder), label="label"),
        "arrow": ArrowConfig(path=str(folder), label="label"),
    }


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow"])
def test_every_format_gives_the_rows(tmp_path: Path, kind: str) -> None:
    result = list(written(tmp_path)[kind].records())
    assert all(isinstance(record, Record) for record in result)
    assert [(r.raw, r.label) for r in result if isinstance(r, Record)] == [
        (row["text"], str(row["label"])) for row in ROWS
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow"])
def test_a_table_without_rows_is_reported(tmp_path: Path, kind: str) -> None:
    (only,) = written(tmp_path, rows=0)[kind].records()
    assert isinstance(only, Reject)
    assert only.empty
    assert only.reason == "no rows"


def test_a_dataset_saved_by_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "d")
    result = list(ArrowConfig(path=str(tmp_path / "d")).records())
    assert [r.raw for r in result if isinstance(r, Record)] == [row["text"] for row in ROWS]


def test_pictures_in_a_table(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    rows = [{"image": {"bytes": file.getvalue(), "path": "a.png"}}, {"image": {"bytes": b"no"}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    good, bad = ParquetConfig(path=str(tmp_path), field="image").records()
    assert isinstance(good, Record)
    assert (np.asarray(good.raw) == pixels).all()
    assert isinstance(bad, Reject)
    assert bad.origin.endswith("a.parquet:row 2")


def test_bad_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nfine,1\nonly one\nfine,2\nmore,3,4\n")
    kinds = [type(r) for r in CsvConfig(path=str(tmp_path)).records()]
    assert kinds == [Record, Reject, Record, Reject]
    (tmp_path / "a.csv").write_bytes(b"text,label\nfine,1\ncaf\xe9,2\n")
    *_, last = CsvConfig(path=str(tmp_path)).records()
    assert isinstance(last, Reject)
    assert "not UTF-8" in last.reason
    written(tmp_path)
    missing = list(ParquetConfig(path=str(tmp_path), field="txt").records())
    assert len(missing) == len(ROWS)
    assert isinstance(missing[0], Reject)
    assert "no field `txt`; did you mean `text`" in missing[0].reason
    full = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(full[:-20])
    (only,) = ParquetConfig(path=str(tmp_path)).records()
    assert isinstance(only, Reject)
    full = (tmp_path / "stream.arrow").read_bytes()
    (tmp_path / "stream.arrow").write_bytes(full[: len(full) // 2])
    *_, last = ArrowConfig(path=str(tmp_path)).records()
    assert isinstance(last, Reject)
