"""Packed batches a second beside `datasets` with transformers' collator, and as a store grows.

    python bench/loader.py [--rounds 3] [--megabytes 10 1000]

A store of the Python code of this environment, prepared here; the peer has the same ids, joined and
cut into rows of the same length. Each round is a process of each (A B A B), one thread. Then small
and large stores: of the large one's shards each is a real copy of the small one's files, so that
the bytes read differ: batches alone, and with the step that takes them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import step
from broadbase.data.batches import MixedBatches
from broadbase.data.rows import Rows
from broadbase.data.store.documents import Split
from broadbase.data.store.store import open_store, read_array
from machine import BENCH, Row, description, measured, peers, tell
from prepare import corpus

LENGTH, ROWS, STEPS, REPEATS, TRAINED = 512, 16, 300, 3, 12


def prepared(folder: Path, megabytes: int) -> Path:
    """A store of so many megabytes of text."""
    corpus(folder / "texts", megabytes)
    command = [sys.executable, "-m", "broadbase", "prepare", "text"]
    measured([*command, "--data", folder / "texts", "--store", folder / "store"], threads=2)
    return folder / "store" / "text"


def mixture(store: Path, copies: int) -> MixedBatches:
    """The rows of a store, or of one as many times as large: its values are copied on disk."""
    split = open_store(store).split("train")
    if copies > 1:
        split = repeated(split, store.parent, copies)
    return MixedBatches({"text": Rows(split, LENGTH)}, {"text": "text"}, {"text": ROWS}, seed=0)


def repeated(split: Split, folder: Path, copies: int) -> Split:
    """The same documents again and again, each time in files of their own."""
    values = list(split.values)
    for i in range(1, copies):
        for j, shard in enumerate(split.values):
            file = folder / f"copy-{i}-{j}.npy"
            if not file.exists():
                np.save(file, shard)
            values.append(read_array(file))
    shards = [split.shards + i * len(split.values) for i in range(copies)]
    again = ("firsts", "lengths", "units_each", "grids")
    columns: dict[str, Any] = {n: np.concatenate([getattr(split, n)] * copies) for n in again}
    return replace(split, values=tuple(values), shards=np.concatenate(shards), **columns)


def ours(store: str, copies: str) -> None:
    """In a process of its own: seconds a batch, each time of others of the store."""
    mixed, seconds = mixture(Path(store), int(copies)), []
    for i in range(REPEATS + 1):
        batches = mixed.batches(i * STEPS, (i + 1) * STEPS)
        began = time.perf_counter()
        result = sum(1 for _ in islice(batches, STEPS))
        seconds.append((time.perf_counter() - began) / result)
    print(json.dumps(seconds[1:]))


def trained(store: str, copies: str) -> None:
    """In a process of its own: a 3M Llama learns from the store; seconds a step."""
    mixed = replace(mixture(Path(store), int(copies)), counts={"text": 4})  # 4 rows: 2,048 places
    given = mixed.batches(0, TRAINED)
    print(json.dumps([s for s, _ in step.ours(step.SHAPES["3M"], TRAINED, False, given)][1:]))


def speed(command: Sequence[object]) -> float:
    """Batches a second."""
    return 1 / statistics.median(json.loads(measured(command).said.splitlines()[-1]))


def compared(store: Path, rounds: int) -> Iterator[Row]:
    """Beside `datasets`, plain and with its torch format."""
    split = open_store(store).split("train")
    flat = store.parent / "ids.npy"
    np.save(flat, np.concatenate([split.document(i) for i in range(min(len(split), 4000))]))
    python, script = peers("loader"), BENCH / "peers" / "load.py"
    for form, bar in (("plain", 20.0), ("torch", 1.0)):
        sides: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(rounds):
            sides["ours"].append(speed([sys.executable, __file__, "--ours", store, "1"]))
            numbers = [str(n) for n in (LENGTH, ROWS, 100)]
            sides["theirs"].append(speed([python, script, flat, *numbers, form]))
        work = f"loader, rows of {LENGTH}, {'default collator' if form == 'plain' else form}"
        yield Row(work, sides["ours"], sides["theirs"], "batches/s", f"datasets ({form})", bar)


def grown(store: Path, megabytes: list[int], rounds: int) -> Iterator[Row]:
    """The large store beside the small one."""
    copies = round(megabytes[1] / megabytes[0])
    for mode, what in (("--ours", "loader"), ("--trained", "3M step with its batch")):
        sides: dict[int, list[float]] = {1: [], copies: []}
        commands = {n: [sys.executable, __file__, mode, store, str(n)] for n in sides}
        speed(commands[copies])  # writes the copies
        for _ in range(rounds):
            for n, speeds in sides.items():
                speeds.append(speed(commands[n]))
        work = f"{what}, {megabytes[1]} MB of text"
        yield Row(work, sides[copies], sides[1], "batches/s", f"{megabytes[0]} MB", 0.9)


def main() -> None:
    """Both, in one store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, nargs=2, default=[10, 1000])
    options = parser.parse_args()
    print(description(), "1 thread", sep=", ")
    with tempfile.TemporaryDirectory() as name:
        store = prepared(Path(name), options.megabytes[0])
        tell([*compared(store, options.rounds), *grown(store, options.megabytes, options.rounds)])
        shutil.rmtree(store.parent)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        ours(*sys.argv[2:])
    elif sys.argv[1:2] == ["--trained"]:
        trained(*sys.argv[2:])
    else:
        main()
