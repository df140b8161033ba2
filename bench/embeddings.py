"""Sentence embeddings beside sentence-transformers' `encode`: same weights, real sentences, CPU.

    python bench/embeddings.py [FOLDER] [--sentences 1000] [--rounds 5] [--threads 2]

FOLDER holds an encoder with its tokenizer; without one it is the sample base `minilm`.
The sentences are first lines of docstrings of the standard library. Each round is a process of each
(A B A B) that embeds them all three times after warming up. Both must give the same vectors.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from broadbase.weights.folder import load, model_folder
from machine import BENCH, Row, description, measured, peers, tell

REPEATS, CLOSE = 3, 1e-5


def sentences() -> Iterator[str]:
    """First lines of docstrings, each once."""
    seen = set()
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
            text = ast.get_docstring(node) if isinstance(node, kinds) else None
            line = (text or "").split("\n")[0].strip()
            if len(line) > 20 and line not in seen:
                seen.add(line)
                yield line


def ours(folder: str, texts: str, out: str) -> None:
    """In a process of its own: prints the seconds of each time."""
    base, given = load(folder), json.loads(Path(texts).read_text())
    base.embed(given[:64], layers=False)
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        result = base.embed(given, layers=False)
        seconds.append(time.perf_counter() - began)
    np.save(out, result / np.linalg.norm(result, axis=1, keepdims=True))
    print(json.dumps(seconds))


def main() -> None:
    """Sentences a second, and how far apart the vectors are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default="sample:minilm")
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    given = [text for text, _ in zip(sentences(), range(options.sentences), strict=False)]
    folder, python = model_folder(options.folder), peers("embedding")
    print(description(), f"{options.threads} threads, fp32", sep=", ")
    with tempfile.TemporaryDirectory() as name:
        texts, a, b = (Path(name) / file for file in ("texts.json", "a.npy", "b.npy"))
        texts.write_text(json.dumps(given))
        commands = {
            "ours": [sys.executable, __file__, "--ours", folder, texts, a],
            "theirs": [python, BENCH / "peers" / "embed.py", folder, texts, b, str(REPEATS)],
        }
        speeds: dict[str, list[float]] = {side: [] for side in commands}
        for _ in range(options.rounds):
            for side, command in commands.items():
                said = measured(command, threads=options.threads).said.splitlines()[-1]
                speeds[side].append(len(given) / statistics.median(json.loads(said)))
        apart = float(np.abs(np.load(a) - np.load(b)).max())
    assert apart <= CLOSE, f"the vectors are {apart:.1e} apart"
    more = f"vectors of length 1, at most {apart:.0e} apart"
    peer = "sentence-transformers' encode"
    work = f"embedding {len(given)} sentences, MiniLM"
    tell([Row(work, speeds["ours"], speeds["theirs"], "sentences/s", peer, 1.2, more=more)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        ours(*sys.argv[2:])
    else:
        main()
