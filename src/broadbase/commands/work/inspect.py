"""What a model reads: mixture, epochs, lengths, duplicates, and records decoded from the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from types import UnionType
from typing import Any

import numpy as np

from broadbase.core.codec import Codec
from broadbase.core.contracts import ModalityConfig
from broadbase.core.errors import DataError
from broadbase.core.terminal import Terminal, echo
from broadbase.data.sources.finding import counted
from broadbase.data.store.store import AGAIN, Store, open_store
from broadbase.report.tables import print_table
from broadbase.run.run import Run

BARS = " ▁▂▃▄▅▆▇█"
Fields = Mapping[str, type | UnionType]
TWIN: Fields = {"similarity": int | float, "origin": str, "kept": str}
REJECT: Fields = {"origin": str, "reason": str}
WIDE = 160  # characters of a record that are shown


def inspect(folder: Path, examples: int, as_json: bool) -> None:
    """Print what a model reads of a run or of prepared data, for people or as JSON."""
    sources = inspected(folder, examples)
    if as_json:
        echo(json.dumps(sources))
    else:
        show(sources)


def inspected(folder: Path, examples: int) -> list[dict[str, Any]]:
    """Return an entry for each source of a run, or of a folder of prepared data.

    Counts of the manifest, the histogram of document lengths over powers of two, duplicates and
    records as examples; of a run also the rows of a step, their share, and the epochs.
    """
    if (folder / "config.yaml").exists():
        run = Run.open(folder)
        return [_source(name, s, examples, _mixture(run, name)) for name, s in run.stores.items()]
    stores = {p.parent.name: open_store(p.parent) for p in sorted(folder.glob("*/manifest.json"))}
    if not stores:
        raise DataError(
            f"{folder} holds neither a run nor prepared data; give the folder of a run (--out of "
            "pretrain), or of a store (--store of prepare)"
        )
    return [_source(name, store, examples, {}) for name, store in stores.items()]


def show(sources: list[dict[str, Any]]) -> None:
    """Print the same for people, on stdout."""
    columns = ("records", "exact", "near", "rejected", "empty", "removed", "train", "validation")
    mixture = ("batch_size", "share", "epochs") if "epochs" in sources[0] else ()
    rows = [
        {"source": entry["source"]}
        | {c: f"{entry[c]:,}" for c in columns}
        | {c: f"{entry[c]:.3g}" for c in mixture}
        for entry in sources
    ]
    print_table(rows, ("source", *columns, *mixture), "sources")
    terminal = Terminal()
    for entry in sources:
        _show_source(entry, terminal.say)


def _show_source(entry: Mapping[str, Any], say: Callable[[str], None]) -> None:
    say(f"── {entry['source']}  (licence: {entry['licence']})")
    counts = entry["lengths"].values()
    top = max(counts)
    bars = "".join(BARS[-(-8 * n // top)] for n in counts)
    powers = list(entry["lengths"])
    span = f"{powers[0]} |{bars}| {powers[-1]}"
    say(f"tokens per document, by powers of two: {span}; median {entry['median']:,}")
    for what, number in entry["converted"].items():
        say(f"  {number:,} converted from {what}")
    if entry["left_out"]:
        say(f"  left out, as no source reads them: {counted(entry['left_out'])}")
    for record in entry["examples"]:
        say(f"  {record['id']}  {record['tokens']:,} tokens: {record['record']}")
    for twin in entry["duplicates"]:
        say(f"  {twin['similarity']:.2f} alike: {twin['origin']}  kept: {twin['kept']}")
    for reject in entry["rejects"]:
        say(f"  rejected {reject['origin']}: {reject['reason']}")


def _source(name: str, store: Store, examples: int, mixture: Mapping[str, float]) -> dict[str, Any]:
    split, ids = store.split("train"), store.ids("train")
    codec = ModalityConfig.from_tree(store.manifest["modality"]).load(store.folder / "codec")
    power = np.floor(np.log2(np.maximum(split.lengths, 1))).astype(int)
    counts = np.bincount(power, minlength=int(power.max()) + 1)
    chosen = np.random.default_rng(0).permutation(len(split))[:examples]
    return {
        "source": name,
        **store.manifest["counts"],
        "converted": store.manifest.get("converted", {}),
        "left_out": store.left_out,
        **mixture,
        "licence": store.manifest["licence"],
        "unit": store.unit,
        "units": split.units,
        "tokens": split.targets,
        "median": int(np.median(split.lengths)),
        "lengths": {str(2**i): int(n) for i, n in enumerate(counts) if i >= int(power.min())},
        "examples": [
            {
                "id": ids[i],
                "tokens": int(split.lengths[i]),
                "record": _decoded(codec, split.piece(i, 1, int(split.lengths[i])), split.grids[i]),
            }
            for i in chosen.tolist()
        ],
        "duplicates": _first(store.folder / "duplicates.jsonl", examples, TWIN),
        "rejects": _first(store.folder / "rejected.jsonl", examples, REJECT),
    }


def _decoded(codec: Codec, values: Any, grid: Any) -> str:
    raw = codec.decode(values, tuple(int(n) for n in grid))
    if isinstance(raw, np.ndarray):
        return f"{raw.shape}, {raw.min():.2f} to {raw.max():.2f}"
    text = raw if isinstance(raw, str) else str(raw)
    return repr(text if len(text) <= WIDE else text[:WIDE] + "...")


def _mixture(run: Run, name: str) -> dict[str, float]:
    """Report rows of a step, the share of tokens, and how often each row is read by the end."""
    mixed = run.config.data.sources
    everything = sum(m.batch_size * m.row_length for m in mixed.values())
    return {
        "batch_size": mixed[name].batch_size,
        "share": mixed[name].batch_size * mixed[name].row_length / everything,
        "epochs": run.epochs()[name],
    }


def _first(path: Path, count: int, fields: Fields) -> list[dict[str, Any]]:
    """Read the first rows of a JSONL file; DataError where one is no object with these fields."""
    try:
        with path.open("rb") as file:
            rows = [json.loads(line) for line in islice(file, count)]
        lacking = [row for row in rows if not isinstance(row, dict) or not row.keys() >= {*fields}]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; {AGAIN}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}; {AGAIN}") from None
    if lacking or not all(isinstance(r[k], t) for r in rows for k, t in fields.items()):
        raise DataError(f"{path} is damaged: a row lacks {' or '.join(fields)}; {AGAIN}")
    return rows
