"""Prepare 100 MB of text: clean, deduplicate, tokenise, write; beside datasets and datasketch.

The corpus is the Python code of this environment, cut to records of at most 20,000 characters. Both
sides have the same tokenizer, and must write the same ids for the same documents.

    python bench/prepare.py [--megabytes 100] [--rounds 3]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from broadbase.data.store.store import open_store
from machine import BENCH, Measured, description, measured, peers

LONGEST, FILE = 20_000, 10_000_000  # characters of a record, bytes of a file
PROCESSES = 2


def corpus(folder: Path, megabytes: int) -> None:
    """So many megabytes of JSON lines; every tenth record comes twice, one of them altered.

    Where the environment holds less, it is taken again in capitals, and both from right to left.
    """
    folder.mkdir()
    written, lines, size = 0, list[str](), 0
    for piece in _pieces():
        lines.append(json.dumps({"text": piece}, ensure_ascii=False))
        size += len(lines[-1].encode())
        if len(lines) % 10 == 0:
            lines.append(json.dumps({"text": piece + "\n# again"}, ensure_ascii=False))
            size += len(lines[-1].encode())
        if size >= FILE or written + size >= megabytes * 1e6:
            (folder / f"{written // FILE:03d}.jsonl").write_text("\n".join(lines) + "\n")
            written, lines, size = written + size, [], 0
        if written >= megabytes * 1e6:
            return
    raise SystemExit(f"this environment holds only {written / 1e6:.0f} MB of Python, four times")


def _pieces() -> Iterator[str]:
    for changed in (str, str.upper, _reversed, lambda text: _reversed(text).upper()):
        for path in sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py")):
            text = changed(path.read_text(encoding="utf-8", errors="ignore"))
            for start in range(0, len(text), LONGEST):
                if text[start : start + LONGEST].strip():
                    yield text[start : start + LONGEST]


def _reversed(text: str) -> str:
    return text[::-1]


def ours(texts: Path, codec: Path, out: Path) -> list[object]:
    """Our command, with the codec already there: training it is no part of the comparison."""
    shutil.copytree(codec, out / "text" / "codec")
    command = [sys.executable, "-m", "broadbase", "prepare", "text", "--data", texts]
    return [*command, "--store", out, "--processes", str(PROCESSES)]


def compared(actual: Path, reference: Path, python: Path) -> dict[str, int]:
    """How many documents each kept, and how many of them are in both with the same ids."""
    code = (
        "import sys, hashlib, numpy as np; from datasets import load_from_disk\n"
        "for row in load_from_disk(sys.argv[1]): print(hashlib.sha256("
        "np.array(row['ids'], '<i8').tobytes()).hexdigest())"
    )
    result = subprocess.run(
        [python, "-c", code, reference], check=True, capture_output=True, text=True
    )
    other = set(result.stdout.split())
    own = set()
    store = open_store(actual / "text")
    for side in ("train", "validation"):
        split = store.split(side)
        own |= {hashed(split.document(i)) for i in range(len(split))}
    return {"ours": len(own), "theirs": len(other), "both, same ids": len(own & other)}


def hashed(ids: object) -> str:
    """One string of the ids between start and end."""
    return hashlib.sha256(np.asarray(ids)[1:-1].astype("<i8").tobytes()).hexdigest()


def main() -> None:
    """A B A B; medians, and the ratio of each pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    python = peers("prepare")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus(folder / "texts", options.megabytes)
        first = [sys.executable, "-m", "broadbase", "prepare", "text"]
        measured([*first, "--data", folder / "texts", "--store", folder / "first"])
        codec = folder / "first" / "text" / "codec"
        results: dict[str, list[Measured]] = {"ours": [], "theirs": []}
        for i in range(options.rounds):
            a, b = folder / f"a{i}", folder / f"b{i}"
            results["ours"].append(measured(ours(folder / "texts", codec, a), once=True))
            script = BENCH / "peers" / "prepare.py"
            reference = [python, script, folder / "texts", codec / "tokenizer.json", b]
            results["theirs"].append(measured([*reference, str(PROCESSES)], once=True))
        print(description())
        print(compared(a, b / "store", python))
    for side, runs in results.items():
        row = {
            "seconds": round(statistics.median(r.seconds for r in runs), 1),
            "peak MB": round(max(r.megabytes for r in runs)),
        }
        print(side, row)
    ratios = [
        b.seconds / a.seconds for a, b in zip(results["ours"], results["theirs"], strict=True)
    ]
    print("times as fast:", [round(ratio, 2) for ratio in ratios])


if __name__ == "__main__":
    main()
