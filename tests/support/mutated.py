"""Mutated files: small real ones made by the libraries that write them, damaged in many ways."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from PIL import Image
from rdkit import Chem
from scipy import sparse

from broadbase.data.sources.integrity import REVERSED
from support.cells import cells_file

Mutate = Callable[[np.random.Generator, bytes, bytes], bytes]  # chance, a file, another -> damaged
LARGE = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 24, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def bits(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """1 to 16 bits turned over."""
    result = bytearray(data)
    for at in rng.integers(len(result), size=rng.integers(1, 17)):
        result[at] ^= 1 << int(rng.integers(8))
    return bytes(result)


def values(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """1 to 30 bytes changed at random."""
    result = bytearray(data)
    for at in rng.integers(len(result), size=rng.integers(1, 31)):
        result[at] = int(rng.integers(256))
    return bytes(result)


def cut(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """The end is missing."""
    return data[: int(rng.integers(len(data)))]


def removed(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """A piece is missing."""
    a, b = _piece(rng, data)
    return data[:a] + data[b:]


def lengths(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """A number of 2, 4 or 8 bytes, near the beginning or anywhere, says something extreme."""
    size, order = int(rng.choice([2, 4, 8])), ("little", "big")[int(rng.integers(2))]
    most = min(len(data), 256) if rng.random() < 0.5 else len(data)
    at, number = int(rng.integers(most)), int(rng.choice(LARGE))
    output = min(number, 256**size - 1).to_bytes(size, order)  # type: ignore[arg-type]
    return data[:at] + output + data[at + size :]


def digits(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """The same of a number in letters."""
    positions = [i for i, byte in enumerate(data) if 48 <= byte < 58]
    if not positions:
        return lengths(rng, data, other)
    at = positions[int(rng.integers(len(positions)))]
    return data[:at] + str(int(rng.choice(LARGE))).encode() + data[at + 1 :]


def header(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """The first bytes are another file's."""
    size = int(rng.integers(1, 65))
    return other[:size] + data[size:]


def repeated(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """A piece comes up to 40 times."""
    a, b = _piece(rng, data)
    return data[:b] + data[a:b] * int(rng.integers(1, 40)) + data[b:]


def spliced(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """The first part of one, the last of another."""
    return data[: int(rng.integers(len(data)))] + other[int(rng.integers(len(other))) :]


def blank(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """A piece is all zeros, as a disk leaves it."""
    a, b = _piece(rng, data)
    return data[:a] + bytes(b - a) + data[b:]


def longer(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """Something stands behind its end."""
    return data + rng.bytes(int(rng.integers(1, 400)))


def several(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Two or three of these."""
    for i in rng.integers(len(SINGLE), size=rng.integers(2, 4)):
        data = SINGLE[i](rng, data, other) or b"\0"
    return data


SINGLE: tuple[Mutate, ...] = (
    bits, values, cut, removed, lengths, digits, header, repeated, spliced, blank, longer
)  # fmt: skip
MUTATORS: tuple[Mutate, ...] = (*SINGLE, several)


def _piece(rng: np.random.Generator, data: bytes) -> tuple[int, int]:
    a = int(rng.integers(len(data)))
    return a, min(len(data), a + int(rng.integers(1, 1 + max(1, len(data) // 4))))


def resummed(name: str, data: bytes) -> bytes:
    """With the sums put right again that its container keeps, as by one who damages on purpose."""
    if name.endswith(".png"):
        return _png_resummed(data)
    return _ogg_resummed(data) if name.endswith((".ogg", ".opus")) else data


def _png_resummed(data: bytes) -> bytes:
    result, at = bytearray(data), 8
    while at + 12 <= len(data):
        stop = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if stop + 4 > len(data):
            break
        result[stop : stop + 4] = zlib.crc32(data[at + 4 : stop]).to_bytes(4, "big")
        at = stop + 4
    return bytes(result)


def _ogg_resummed(data: bytes) -> bytes:
    result, at = bytearray(data), 0
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        body = at + 27 + data[at + 26]
        stop = body + sum(data[at + 27 : body])
        page = data[at : at + 22] + bytes(4) + data[at + 26 : stop]
        turned = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        result[at + 22 : at + 26] = struct.pack("<I", int(f"{turned:032b}"[::-1], 2))
        at = stop
    return bytes(result)


def photo(seed: int, size: tuple[int, int] = (21, 17)) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth coloured picture [H,W,3] with some noise."""
    rng, (w, h) = np.random.default_rng(seed), size
    y, x = np.mgrid[:h, :w]
    waves = [np.sin(x / rng.uniform(2, 6) + y / rng.uniform(2, 6)) for _ in range(3)]
    noise = rng.normal(0, 8, (h, w, 3))
    return np.clip(128 + 90 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def pictures() -> dict[str, bytes]:
    """Every format and some modes."""
    result: dict[str, bytes] = {}
    for ending, settings in {
        "png": {}, "jpg": {"quality": 80}, "webp": {}, "gif": {}, "bmp": {}, "tif": {}
    }.items():  # fmt: skip
        for seed in range(2):
            full = Image.fromarray(photo(seed, (21 + 9 * seed, 17)))
            result[f"{seed}.{ending}"] = _image(full, ending, settings)
    full = Image.fromarray(photo(5))
    result["grey.png"] = _image(full.convert("L"), "png", {})
    result["few.png"] = _image(full.convert("P"), "png", {"transparency": 0})
    result["deep.png"] = _image(
        Image.fromarray(photo(6)[..., 0].astype(np.uint16) * 257), "png", {}
    )
    result["lossless.webp"] = _image(full, "webp", {"lossless": True})
    result["steps.jpg"] = _image(full, "jpg", {"progressive": True})
    for packing in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
        result[f"{packing}.tif"] = _image(full, "tif", {"compression": packing})
    return result


def _image(image: Image.Image, ending: str, settings: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    kind = {"jpg": "jpeg", "tif": "tiff"}.get(ending, ending)
    image.save(file, kind, **settings)
    return file.getvalue()


def sounds() -> dict[str, bytes]:
    """Every container, with one and two channels, two rates."""
    forms = {
        "a.wav": ("WAV", "PCM_16"),
        "f.wav": ("WAV", "FLOAT"),
        "a.flac": ("FLAC", "PCM_16"),
        "b.flac": ("FLAC", "PCM_24"),
        "a.ogg": ("OGG", "VORBIS"),
        "a.opus": ("OGG", "OPUS"),
        "f.ogg": ("OGG", "FLAC"),
        "a.mp3": ("MP3", "MPEG_LAYER_III"),
    }
    if "FLAC" not in soundfile.available_subtypes("OGG"):
        del forms["f.ogg"]
    result = {}
    for i, (name, (form, subtype)) in enumerate(forms.items()):
        rate = 16_000 if i % 2 else 8_000
        rng, t = np.random.default_rng(i), np.arange(rate // 4) / rate
        x = 0.4 * np.sin(2 * np.pi * 440 * t) + 0.05 * rng.standard_normal(len(t))
        both = np.stack([x, 0.5 * x], axis=1) if name.startswith("b") else x
        file = io.BytesIO()
        soundfile.write(file, both, rate, format=form, subtype=subtype)
        result[name] = file.getvalue()
    return result


def films(folder: Path) -> dict[str, bytes]:
    """Containers and codecs of many kinds; the frames of .mkv have sums of their own (FFV1 3)."""
    kinds = {
        "a.mp4": ("mpeg4", "yuv420p", {}),
        "b.mp4": ("libx264", "yuv420p", {}),
        "a.avi": ("mjpeg", "yuvj420p", {}),
        "a.webm": ("libvpx-vp9", "yuv420p", {}),
        "a.mpg": ("mpeg1video", "yuv420p", {}),
        "a.mkv": ("ffv1", "bgr0", {"level": "3", "slicecrc": "1"}),
        "b.mkv": ("ffv1", "bgr0", {"level": "3", "slicecrc": "1"}),
    }
    result = {}
    for i, (name, (codec, pixels, options)) in enumerate(kinds.items()):
        frames = np.random.default_rng(i).integers(0, 40, (20, 32, 32, 3), dtype=np.uint8)
        for n in range(len(frames)):
            frames[n, 8:20, n : n + 8] = 200
        with av.open(str(folder / name), "w") as out:
            stream = out.add_stream(codec, rate=Fraction(25), options=options)
            stream.height, stream.width, stream.pix_fmt = 32, 32, pixels
            for frame in frames:
                shown = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format=pixels)
                out.mux(stream.encode(shown))
            out.mux(stream.encode(None))
        result[name] = (folder / name).read_bytes()
    return result


def proteins() -> dict[str, bytes]:
    """FASTA, plain and packed."""
    result, letters = {}, list("ACDEFGHIKLMNPQRSTVWY")
    for i in range(2):
        rng = np.random.default_rng(i)
        text = ""
        for n in range(6):
            residues = "".join(rng.choice(letters, int(rng.integers(20, 120))))
            lines = "\n".join(residues[k : k + 60] for k in range(0, len(residues), 60))
            text += f">sp|P{i}{n}|X_HUMAN protein {n}\n{lines}\n"
        result[f"{i}.fasta"] = text.encode()
        result[f"{i}.fa.gz"] = gzip.compress(text.encode())
    result["0.fasta.zst"] = packed_zst(result["0.fasta"])
    return result


def packed_zst(data: bytes) -> bytes:
    """Packed by Zstandard."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return sink.getvalue().to_pybytes()


SMILES = (
    "CC(=O)Oc1ccccc1C(=O)O aspirin",
    "Cn1cnc2c1c(=O)n(C)c(=O)n2C caffeine",
    "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O ibuprofen",
    "C1CC2CCC1CC2",
    "[Na+].[O-]S(=O)(=O)c1ccc2cc(ccc2c1)N=Nc1c(O)ccc2ccccc12",
    r"C/C=C\C1CCC%10CCCCC%10C1",
    "C12C3C4C1C5C2C3C45 cubane",
    "[13CH4]",
    "OC[C@H]1O[C@@H](O)[C@H](O)[C@@H](O)[C@@H]1O",
    "c1ccc2c(c1)ccc1c2ccc2c1cccc2 rings",
)


def molecules() -> dict[str, bytes]:
    """Lists of SMILES."""
    result = {f"{i}.smi": "\n".join(SMILES[i::2]).encode() + b"\n" for i in range(2)}
    result["0.smi.gz"] = gzip.compress(result["0.smi"])
    return result


def structures() -> dict[str, bytes]:
    """SD files of them."""
    result = {}
    for i in range(2):
        file = io.StringIO()
        with Chem.SDWriter(file) as writer:
            for line in SMILES[i::2]:
                result_one = Chem.MolFromSmiles(line.split()[0])
                result_one.SetProp("mass", str(result_one.GetNumAtoms()))
                writer.write(result_one)
        result[f"{i}.sdf"] = file.getvalue().encode()
    return result


def cells(folder: Path) -> dict[str, bytes]:
    """Dense and sparse, of now and of old."""
    rng, result = np.random.default_rng(0), {}
    counts = rng.poisson(0.8, (30, 12)).astype(np.float32) * rng.integers(1, 4, (30, 1))
    genes, kinds = [f"GENE{i}" for i in range(12)], ["T", "B"] * 15
    for name, matrix, layout in (
        ("rows.h5ad", sparse.csr_matrix(counts), "X"),
        ("columns.h5ad", sparse.csc_matrix(counts), "X"),
        ("dense.h5ad", counts, "raw"),
        ("old.h5ad", counts, "old"),
    ):
        cells_file(folder / name, matrix, genes, kinds, layout)
        result[name] = (folder / name).read_bytes()
    return result


ROWS = [{"text": f'row "{i}",\nwith {i % 7} words', "label": i % 3} for i in range(120)]


def tables() -> dict[str, bytes]:
    """Parquet with the sums of its pages, packed and plain."""
    result, table = {}, pa.Table.from_pylist(ROWS)
    for name, packing, words in (
        ("a.parquet", "snappy", True),
        ("b.parquet", "zstd", False),
        ("c.parquet", "none", True),
    ):
        file = io.BytesIO()
        pq.write_table(
            table, file, 50, compression=packing, use_dictionary=words, write_page_checksum=True
        )
        result[name] = file.getvalue()
    return result


def streams() -> dict[str, bytes]:
    """Arrow, in both of its forms."""
    result, table = {}, pa.Table.from_pylist(ROWS)
    for name, make in (("a.arrow", pa.ipc.new_stream), ("b.arrow", pa.ipc.new_file)):
        file = io.BytesIO()
        with make(file, table.schema) as out:
            out.write_table(table, max_chunksize=50)
        result[name] = file.getvalue()
    return result


def lines() -> dict[str, bytes]:
    """JSON lines, plain and packed."""
    text = "\n".join(json.dumps(row) for row in ROWS[:40]).encode()
    return {"a.jsonl": text, "b.jsonl.gz": gzip.compress(text), "c.jsonl.zst": packed_zst(text)}


def sheets() -> dict[str, bytes]:
    """CSV, plain and packed."""
    text = "text,label\n" + "".join(f'"a {i}, b",{i % 3}\n' for i in range(40))
    return {"a.csv": text.encode(), "b.csv.gz": gzip.compress(text.encode())}


def texts() -> dict[str, bytes]:
    """Plain and packed."""
    text = "\n".join(f"Line {i} of a té xt." for i in range(40)).encode()
    return {"a.txt": text, "b.txt.gz": gzip.compress(text), "c.txt.zst": packed_zst(text)}
