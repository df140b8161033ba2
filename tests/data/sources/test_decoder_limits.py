"""Small files that ask for much: every decoder has caps, and says which one."""

from __future__ import annotations

import bz2
import gzip
import io
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.data.sources import compressed, csv_rows, sequences
from broadbase.data.sources.compressed import RATIO
from broadbase.data.sources.files import FilesConfig, ImageFilesConfig
from broadbase.data.sources.isolated import apart
from broadbase.data.sources.json_files import JsonLinesConfig
from broadbase.data.sources.sequences import FastaConfig, SdfConfig, SmilesFilesConfig
from broadbase.data.sources.sound import AudioFilesConfig
from broadbase.data.sources.tables import ArrowConfig, CsvConfig, ParquetConfig
from broadbase.data.sources.video import VideoFilesConfig
from broadbase.modalities.molecule import MoleculeConfig
from support.mutated import packed_zst, photo

MEBI = 1 << 20
PACK = {"gz": gzip.compress, "bz2": bz2.compress, "zst": packed_zst}


def refused(source: SourceConfig, reason: str) -> None:
    """The last of what it gives is a Reject for this reason."""
    *_, last = source.records()
    assert isinstance(last, Reject)
    assert re.search(reason, last.reason), last.reason


def test_a_picture_of_many_scans_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A progressive JPEG may refine itself without end: seconds a scan, kilobytes each."""
    monkeypatch.setattr(FilesConfig, "wait", 1.0)
    grey = np.zeros((6000, 8000), np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "jpeg", progressive=True)
    data = file.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(data[:-2] + 200 * scan + b"\xff\xd9")
    refused(ImageFilesConfig(path=str(tmp_path)), "said nothing for 1 s")


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_sounds_of_hours(kind: str, tmp_path: Path) -> None:
    rate, hours = 16_000, 100 * 3600 * 16_000
    soundfile.write(file := io.BytesIO(), np.zeros(rate) + 0.1, rate, format=kind)
    data = bytearray(file.getvalue())
    if kind == "WAV":
        data[40:44] = (2 * hours % 2**32).to_bytes(4, "little")
    else:  # 36 bits, from the lower half of byte 21 on (RFC 9639, 8.2)
        data[21:26] = (((data[21] >> 4) << 36) + hours).to_bytes(5, "big")
    (tmp_path / f"a.{kind.lower()}").write_bytes(data)
    refused(
        AudioFilesConfig(path=str(tmp_path)), "cut short" if kind == "WAV" else r"360000 s; cut"
    )


def test_a_film_that_claims_a_thousand_million_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuvj420p"
        for i in range(20):
            shown = av.VideoFrame.from_ndarray(photo(i, (32, 32)), "rgb24")
            out.mux(stream.encode(shown.reformat(format="yuvj420p")))
        out.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    for name, at in ((b"avih", 24), (b"strh", 40)):  # frames of the file, of the stream
        start = data.index(name) + at
        assert int.from_bytes(data[start : start + 4], "little") == 20
        data[start : start + 4] = (10**9).to_bytes(4, "little")
    path.write_bytes(data)
    settings = {"frames": 4, "stretch": 12, "side": 16, "size": 8}
    refused(VideoFilesConfig(path=str(path), **settings), r"cut short: 0.8 of 4e\+07 s")


def test_molecules_of_a_hundred_thousand_atoms(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("C" * 100_000)
    (record,) = SmilesFilesConfig(path=str(tmp_path)).records()
    assert isinstance(record, Record)
    with pytest.raises(ValueError, match=r"100,000 characters; a molecule has at most 2,000"):
        MoleculeConfig().clean(record.raw)
    count = 3_000
    rows = ["", "", "", "  0  0  0  0  0  0  0  0  0  0999 V3000", "M  V30 BEGIN CTAB"]
    rows += [f"M  V30 COUNTS {count} 0 0 0 0", "M  V30 BEGIN ATOM"]
    rows += [f"M  V30 {i + 1} C 0 0 0 0" for i in range(count)]
    rows += ["M  V30 END ATOM", "M  V30 END CTAB", "M  END", "$$$$", ""]
    (tmp_path / "a.sdf").write_text("\n".join(rows))
    refused(SdfConfig(path=str(tmp_path)), "3,000 atoms, more than 2,000")


@pytest.mark.parametrize("ending", PACK)
def test_packed_bombs(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 250 times their size is refused before any of it is used."""
    monkeypatch.setattr(compressed, "SMALL", MEBI)
    bomb = PACK[ending](b"\n" * (4 * MEBI))
    assert len(bomb) * RATIO < 4 * MEBI
    (tmp_path / f"a.jsonl.{ending}").write_bytes(bomb)
    source = JsonLinesConfig(path=str(tmp_path), pattern="**/*")
    refused(source, "more than 250 times its [0-9,]+ bytes: a decompression bomb")
    (tmp_path / f"a.jsonl.{ending}").write_bytes(PACK[ending](b'{"text": "a"}\n' * 9))
    assert all(isinstance(r, Record) for r in source.records())


def test_lines_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "LONGEST", 1000)
    monkeypatch.setattr(csv_rows, "FIELD", 1000)
    (tmp_path / "a.fasta").write_text(">one\n" + "MKV\n" * 200 + ">two\n" + "MKV" * 400)
    first, last = FastaConfig(path=str(tmp_path)).records()
    assert isinstance(first, Record)
    assert isinstance(last, Reject)
    assert "a sequence of over 1,000 letters" in last.reason
    (tmp_path / "a.csv").write_text("text\nfine\n" + "x" * 2000)
    first, last = CsvConfig(path=str(tmp_path)).records()
    assert isinstance(first, Record)
    assert isinstance(last, Reject)
    assert "a line of more than 1,000 bytes" in last.reason


@pytest.mark.parametrize(
    "value", ["[" * 100_000, '{"a":' * 100_000, '{"text": ' + "1" * 5000 + "}", '{"text": NaN}']
)
def test_json_without_end(value: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "fine"}}\n{value}\n{{"text": "fine"}}\n')
    kinds = [type(record) for record in JsonLinesConfig(path=str(tmp_path)).records()]
    assert kinds == [Record, Reject, Record]


def words(count: int, length: int) -> pa.Table:
    """One long word, `count` times: a few bytes as a dictionary."""
    index = pa.array(np.zeros(count, np.int32))
    return pa.table({"text": pa.DictionaryArray.from_arrays(index, pa.array(["x" * length]))})


def test_tables_that_unfold(tmp_path: Path) -> None:
    pq.write_table(words(5_000_000, 1), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 30_000
    refused(ParquetConfig(path=str(tmp_path)), "5,000,000 rows in [0-9,]+ bytes")
    pq.write_table(words(512, 32 * MEBI), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 30_000
    refused(ParquetConfig(path=str(tmp_path)), "holds more than 250 times its")
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), words(512, 9).schema) as out:
        out.write_table(words(512, 9))
    data = (tmp_path / "a.arrow").read_bytes()
    rows = (512).to_bytes(8, "little")
    assert rows in data
    (tmp_path / "a.arrow").write_bytes(data.replace(rows, (1 << 40).to_bytes(8, "little")))
    refused(ArrowConfig(path=str(tmp_path)), "damaged|crashes|MiB to decode")


def greedy(path: Path) -> Iterator[Record | Reject]:
    """Reads a file by asking for all memory there is."""
    yield Record("first", str(path))
    kept = [np.empty(256 * MEBI, np.uint8) for _ in range(1 << 12)]
    yield Record(str(len(kept)), str(path))


def test_a_decoder_does_not_get_all_memory(tmp_path: Path) -> None:
    first, last = apart(greedy, tmp_path / "a", 60, (__name__,))  # type: ignore[arg-type]
    assert isinstance(first, Record)
    assert isinstance(last, Reject)
    assert re.search(r"takes more than [0-9,]+ MiB to decode", last.reason)


def test_deep_greys_and_turned_pictures(tmp_path: Path) -> None:
    """16 bits are brought to 8 and told; floats are refused; what lies on its side is set up."""
    wide = np.arange(12, dtype=np.uint16).reshape(3, 4) * 257 * 20
    Image.fromarray(wide).save(tmp_path / "a.png")
    (deep,) = ImageFilesConfig(path=str(tmp_path)).records()
    assert isinstance(deep, Record)
    assert (np.asarray(deep.raw) == np.arange(12).reshape(3, 4) * 20).all()
    assert deep.converted == ("16 bits to 8",)
    (tmp_path / "a.png").unlink()
    Image.fromarray(np.zeros((3, 4), np.float32)).save(tmp_path / "a.tif")
    refused(ImageFilesConfig(path=str(tmp_path)), "greys as floats")
    (tmp_path / "a.tif").unlink()
    upright = Image.fromarray(photo(0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it
    upright.rotate(90, expand=True).save(tmp_path / "a.png", exif=exif)
    (turned,) = ImageFilesConfig(path=str(tmp_path)).records()
    assert isinstance(turned, Record)
    assert (np.asarray(turned.raw) == photo(0)).all()
    assert turned.converted == ("turned upright",)
    (tmp_path / "a.png").unlink()
    frames = [Image.fromarray(photo(i)) for i in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    (moving,) = ImageFilesConfig(path=str(tmp_path)).records()
    assert isinstance(moving, Record)
    assert moving.converted == ("palette to RGB", "several frames to 1")
