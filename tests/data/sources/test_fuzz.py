"""No damaged file brings `prepare` down, holds it up, or is read as what it is not.

Each file goes the product's own way: source, cleaning, codec, store. What keeps sums of its content
(PNG, FLAC, Ogg, FFV1, pages of Parquet, gzip) is refused or is what was written; of other formats
only what every record promises can be asked: shape, range, and what a second reader finds.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from broadbase.core.contracts import ModalityConfig
from broadbase.core.errors import DataError
from broadbase.core.processes import no_main
from broadbase.core.sources import Record, Reject, SourceChunk, SourceConfig
from broadbase.data.sources.cells import H5adConfig
from broadbase.data.sources.files import FilesConfig, ImageFilesConfig
from broadbase.data.sources.integrity import flac_digest
from broadbase.data.sources.json_files import JsonLinesConfig
from broadbase.data.sources.sequences import FastaConfig, SdfConfig, SmilesFilesConfig
from broadbase.data.sources.sound import AudioFilesConfig
from broadbase.data.sources.tables import ArrowConfig, CsvConfig, ParquetConfig
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.data.sources.video import VideoFilesConfig
from broadbase.data.store.prepare import PrepareConfig, prepare
from broadbase.data.store.requests import StoreRequest
from broadbase.modalities.audio import AudioConfig
from broadbase.modalities.bytes import BytesConfig
from broadbase.modalities.cell import CellConfig
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.molecule import MoleculeConfig
from broadbase.modalities.protein import ProteinConfig
from broadbase.modalities.video import VideoConfig
from support.mutated import (
    MUTATORS,
    ROWS,
    cells,
    films,
    lines,
    molecules,
    pictures,
    proteins,
    resummed,
    sheets,
    sounds,
    streams,
    structures,
    tables,
    texts,
)

FEW, MANY, BATCH = 50, 10_000, 100
LONG, DEAD = 2.0, 30.0  # seconds that a file may take, and after which the process is ended
PREFIX = "m"  # of the damaged files' names
SUMMED = (b"\x89PNG", b"fLaC", b"OggS", b"\x1a\x45\xdf\xa3", b"PAR1", b"\x1f\x8b")  # begin so
CLIP = {"frames": 4, "stride": 2, "hop": 3, "stretch": 12, "gap": 5, "side": 16, "size": 8}

Content = tuple[Any, ...]


@dataclass(frozen=True)
class Decoder:
    """What is fuzzed: good files, what reads them, and what a record of them promises."""

    files: Callable[[Path], dict[str, bytes]]
    source: Callable[[str], SourceConfig]
    modality: ModalityConfig
    sums: str  # a pattern of the names whose content has sums
    content: Callable[[Record], Content]  # whole, for equality
    sane: Callable[[Record], bool]
    again: Callable[[bytes], list[Any]] | None = None  # another reader, where one is easily written


def _pixels(record: Record) -> Content:
    return record.raw.mode, record.raw.size, record.raw.convert("RGB").tobytes()


def _heard(record: Record) -> Content:
    return record.raw.rate, record.raw.samples.tobytes()


def _frames(record: Record) -> Content:
    return tuple(frame.tobytes() for frame in record.raw)


def _said(record: Record) -> Content:
    return record.raw, record.label


def _row(record: Record) -> Content:
    """A row; what the foot of a file says, as the type of a label, has no sum."""
    labels = {row["text"]: str(row["label"]) for row in ROWS}
    return record.raw, record.label if record.label in ("0", "1", "2") else labels.get(record.raw)


def _shown(record: Record) -> Content:
    return tuple(sorted(record.raw.items())), record.label


def _text(record: Record) -> bool:
    return isinstance(record.raw, str) and bool(record.raw.strip())


def _sound(record: Record) -> bool:
    x = record.raw.samples
    return x.ndim == 1 and x.dtype == np.float32 and 0 < len(x) <= 600 * record.raw.rate


def _counts(record: Record) -> bool:
    return all(np.isfinite(count) for count in record.raw.values())


def _fasta(data: bytes) -> list[Any]:
    """By splitting, where the product goes line by line."""
    result = re.split(rb"(?m)^[^\S\n]*>", b"\n" + data)[1:]
    parts = [each.decode("latin-1").partition("\n") for each in result]
    kept = [re.sub("[ \t\r\n]", "", residues) for _, _, residues in parts]
    return [residues for residues in kept if residues]


def _smiles(data: bytes) -> list[Any]:
    """As bytes, where the product has text."""
    rows = [row.strip(b" \t\r\n") for row in data.split(b"\n")]
    return [re.split(rb"[ \t]", row)[0].decode() for row in rows if row]


DECODERS = {
    "image": Decoder(
        lambda _: pictures(),
        lambda path: ImageFilesConfig(path=path),
        ImageConfig(height=16, width=16, patch=4),
        r"\.png$",
        _pixels,
        lambda r: isinstance(r.raw, Image.Image) and 0 < r.raw.width * r.raw.height <= 64e6,
    ),
    "audio": Decoder(
        lambda _: sounds(),
        lambda path: AudioFilesConfig(path=path, patience=LONG),
        AudioConfig(),
        r"\.(flac|ogg|opus)$",
        _heard,
        _sound,
    ),
    "video": Decoder(
        films,
        lambda path: VideoFilesConfig(path=path, seconds=LONG, **CLIP),  # type: ignore[arg-type]
        VideoConfig(frames=4, height=8, width=8, patch=4),
        r"\.mkv$",
        _frames,
        lambda r: r.raw.shape == (4, 8, 8, 3) and r.raw.dtype == np.uint8,
    ),
    "FASTA": Decoder(
        lambda _: proteins(),
        lambda path: FastaConfig(path=path),
        ProteinConfig(),
        r"\.gz$",
        _said,
        _text,
        _fasta,
    ),
    "SMILES": Decoder(
        lambda _: molecules(),
        lambda path: SmilesFilesConfig(path=path),
        MoleculeConfig(),
        r"\.gz$",
        _said,
        _text,
        _smiles,
    ),
    "h5ad": Decoder(
        cells,
        lambda path: H5adConfig(path=path, label="kind", seconds=LONG),
        CellConfig(),
        r"never",
        _shown,
        _counts,
    ),
    "parquet": Decoder(
        lambda _: tables(),
        lambda path: ParquetConfig(path=path, label="label"),
        BytesConfig(),
        r"\.parquet$",
        _row,
        _text,
    ),
    "SDF": Decoder(
        lambda _: structures(),
        lambda path: SdfConfig(path=path),
        MoleculeConfig(),
        r"never",
        _said,
        _text,
    ),
    "Arrow": Decoder(
        lambda _: streams(),
        lambda path: ArrowConfig(path=path, label="label"),
        BytesConfig(),
        r"never",
        _said,
        _text,
    ),
    "JSON lines": Decoder(
        lambda _: lines(),
        lambda path: JsonLinesConfig(path=path, label="label"),
        BytesConfig(),
        r"\.gz$",
        _said,
        _text,
    ),
    "CSV": Decoder(
        lambda _: sheets(),
        lambda path: CsvConfig(path=path, label="label"),
        BytesConfig(),
        r"\.gz$",
        _said,
        _text,
    ),
    "text": Decoder(
        lambda _: texts(),
        lambda path: TextFilesConfig(path=path),
        BytesConfig(),
        r"\.gz$",
        _said,
        _text,
    ),
}


class Watched(SourceConfig):
    """A source whose items are told as they are read."""

    name: Literal["fuzz-watched"] = "fuzz-watched"
    source: SourceConfig

    def parts(self) -> Sequence[SourceChunk]:
        return self.source.parts()

    def read(self, part: SourceChunk) -> Iterator[Record | Reject]:
        _begin(part.name)
        for item in self.source.read(part):
            _read.setdefault(part.name, []).append(item)
            yield item

    def fingerprint(self) -> dict[str, str]:
        return self.source.fingerprint()


_read: dict[str, list[Record | Reject]] = {}
_begin: Callable[[str], Any] = str


@dataclass
class Result:
    """Of so many files: what became of them, and what must not be."""

    files: int = 0
    read: int = 0  # that gave records only
    rejected: int = 0  # that gave no record
    partly: int = 0
    late: int = 0  # of the rejected: ended by the product for taking too long
    broke: int = 0  # of the rejected: they ended the process that decodes them
    bad: list[str] = field(default_factory=list)
    slow: dict[str, float] = field(default_factory=dict)  # seconds

    def __iadd__(self, other: Result) -> Result:
        for name in ("files", "read", "rejected", "partly", "late", "broke", "bad"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    __add__ = __iadd__


def damaged(kind: str, good: dict[str, bytes], seed: int) -> tuple[str, bytes]:
    """The name and content of a damaged file: a function of its seed."""
    rng, names = np.random.default_rng([seed, *kind.encode()]), sorted(good)
    one, other = (names[i] for i in rng.integers(len(names), size=2))
    mutate = MUTATORS[rng.integers(len(MUTATORS))]
    data = mutate(rng, good[one], good[other])
    marked = "resummed-" if rng.random() < 0.25 and resummed(one, data) != data else ""
    name = f"{PREFIX}{seed:05d}-{marked}{mutate.__name__}-{one}"
    return name, resummed(one, data) if marked else data


def fuzz(preparing: _Preparing, kind: str, folder: Path, count: int, first: int = 0) -> Result:
    """Damage and prepare `count` files, BATCH at a time, by a process that may break."""
    total = Result()
    (folder / "good").mkdir(parents=True)
    good = DECODERS[kind].files(folder / "good")
    preparing.kind, preparing.folder = kind, folder
    preparing(good, {})  # libraries are loaded
    for start in range(first, first + count, BATCH):
        seeds = range(start, min(start + BATCH, first + count))
        total += _batch(preparing, good, dict(damaged(kind, good, seed) for seed in seeds))
    return total


def _batch(preparing: _Preparing, good: dict[str, bytes], bad: dict[str, bytes]) -> Result:
    """A batch; a file that ends the process or holds it up is told and left out of the next try."""
    total = Result()
    while bad:
        result = preparing(good, bad)
        if isinstance(result, Result):
            again = {name: bad[name] for name in result.slow}  # the machine may have been busy
            if again and isinstance(twice := preparing(good, again), Result):
                result.bad += [f"{name}: {s:.1f} s" for name, s in twice.slow.items()]
            return total + result
        last, why = result
        if last not in bad:
            return total + Result(bad=[f"{last or 'no file'}: {why}"])
        total += Result(files=1, bad=[f"{last}: {why}"])
        del bad[last]
    return total


class _Preparing:
    """A process that prepares files of a kind in a folder, replaced where it breaks."""

    def __init__(self) -> None:
        self.kind, self.folder = "", Path()
        self.process: Any = None

    def __call__(self, good: dict[str, bytes], bad: dict[str, bytes]) -> Result | tuple[str, str]:
        """What it found, or the last file that it read and how it ended."""
        home = self.folder / "in"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        for name, data in {**good, **bad}.items():
            (home / name).write_bytes(data)
        if self.process is None:
            self._start()
        last = ""
        try:
            self.link.send((self.kind, self.folder))
            while self.link.poll(DEAD):
                item = self.link.recv()
                if isinstance(item, Result):
                    return item
                last = item
        except (EOFError, ConnectionError):
            self.process.join()
            return last, f"ended the process ({self.end()})"
        self.end()
        return last, f"took more than {DEAD:g} s"

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        self.link, reference = context.Pipe()
        self.process = context.Process(target=_work, args=(reference,))
        with no_main():
            self.process.start()
        reference.close()

    def end(self) -> int | None:
        if self.process is None:
            return None
        code, self.process = (self.process.exitcode, self.process), None
        self.link.close()  # it leaves, and its own processes with it
        code[1].join(5)
        code[1].kill()
        return code[0]


def _work(link: Connection) -> None:
    """Prepare what is in a folder whenever told to, and compare."""
    global _begin
    FilesConfig.wait = LONG
    times = dict[str, float]()
    clock, current = time.monotonic(), ""

    def begin(name: str) -> None:
        nonlocal clock, current
        times[current] = times.get(current, 0.0) + time.monotonic() - clock
        _read[name] = []
        clock, current = time.monotonic(), name
        link.send(name)

    _begin = begin
    while True:
        try:
            kind, folder = link.recv()
        except EOFError:
            return
        decoder = DECODERS[kind]
        source = Watched(source=decoder.source(str(folder / "in")))
        wanted = {"x": StoreRequest(source, decoder.modality, "x")}
        _read.clear(), times.clear()
        shutil.rmtree(folder / "store", ignore_errors=True)
        try:
            _prepared(wanted, folder / "store")
            begin("")
            output = [json.loads(row) for row in _lines(folder / "store" / "x" / "rejected.jsonl")]
            result = judged(
                decoder, folder / "in", {row["origin"]: row["reason"] for row in output}
            )
            slow = {n: s for n, s in times.items() if n.startswith(PREFIX) and s > LONG}
            result.slow.update({n: s for n, s in slow.items() if not _ended(_read[n])})
        except Exception as error:
            why = f"prepare fell with {type(error).__name__}: {error}"
            result = Result(bad=[f"{current}: {why}"[:400]])
        link.send(result)


def _prepared(wanted: dict[str, StoreRequest], store: Path) -> None:
    """Prepared, by a split that leaves some of a few records on both sides."""
    for holdout in (0.4, 0.6, 0.2):
        try:
            prepare(wanted, store, PrepareConfig(holdout=holdout, rejects=1.0))
        except DataError as error:
            if "records fell on" not in str(error):
                raise
        else:
            return
    raise AssertionError("no split of these records has two sides")


def _ended(items: Sequence[Record | Reject]) -> bool:
    """Whether the product gave a file up for the time it took; another process is started then."""
    return any(isinstance(each, Reject) and "said nothing for" in each.reason for each in items)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def judged(decoder: Decoder, home: Path, output: dict[str, str]) -> Result:
    """What became of each damaged file, as it was read and as `rejected.jsonl` has it."""
    result = Result()
    records = {
        name: [item for item in items if isinstance(item, Record)] for name, items in _read.items()
    }
    truth = {
        decoder.content(r) for n, rs in records.items() if not n.startswith(PREFIX) for r in rs
    }
    pictures = {part for content in truth for part in content}
    for name in sorted(n for n in _read if n.startswith(PREFIX)):
        data, bad = (home / name).read_bytes(), [i for i in _read[name] if isinstance(i, Reject)]
        result.files += 1
        if bad:
            result.rejected += not records[name]
            result.partly += bool(records[name])
        else:
            result.read += 1
        result.late += _ended(bad)
        result.broke += any("crashes its decoder" in each.reason for each in bad)
        wrong = [
            each.origin for each in bad if each.origin not in output or name not in each.origin
        ]
        if not _read[name] and data.strip():
            wrong.append("nothing was told of it")
        if not all(decoder.sane(record) for record in records[name]):
            wrong.append("a record is not what it should be")
        summed = re.search(decoder.sums, name) and "resummed" not in name
        has = not name.endswith("flac") or flac_digest(data) is not None
        if summed and has and data.startswith(SUMMED):
            own = {decoder.content(record) for record in records[name]}
            if "mkv" in name:  # the order of frames has no sums
                own = {content for content in own if set(content) - pictures}
            if own - truth:
                wrong.append(f"misread: {len(own - truth)} of {len(records[name])} records")
        if decoder.again and not (bad or name.endswith((".gz", ".zst"))):
            ours = [re.sub("[ \t\r\n]", "", record.raw) for record in records[name]]
            if ours != decoder.again(data):
                wrong.append("another reader finds something else")
        result.bad += [f"{name}: {each}" for each in wrong]
    return result


@pytest.fixture(scope="module")
def preparing() -> Iterator[_Preparing]:
    process = _Preparing()
    yield process
    process.end()


@pytest.mark.parametrize("kind", DECODERS)
def test_some_damaged_files(preparing: _Preparing, kind: str, tmp_path: Path) -> None:
    result = fuzz(preparing, kind, tmp_path, FEW)
    assert not result.bad, result.bad
    assert result.files == FEW
    assert result.rejected or result.partly


@pytest.mark.slow
@pytest.mark.parametrize("kind", DECODERS)
def test_ten_thousand_damaged_files(preparing: _Preparing, kind: str, tmp_path: Path) -> None:
    result = fuzz(preparing, kind, tmp_path, MANY)
    print(kind, {k: v for k, v in vars(result).items() if k != "bad"})
    assert not result.bad, result.bad
    assert result.files == MANY
