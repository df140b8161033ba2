"""The index of a store: which documents of its shards count, on which side, and why others do not.

Legend: N documents of a source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from broadbase.core.codec import Codec
from broadbase.core.errors import DataError, RejectedError
from broadbase.core.files import discard, draft_folder, write_json, write_text
from broadbase.data.store.duplicates import clusters, estimates
from broadbase.data.store.ownership import is_index
from broadbase.data.store.requests import Snapshot
from broadbase.data.store.shards import add_files
from broadbase.data.store.split import Ints, Numbers, numbers_of, threshold
from broadbase.data.store.store import FORMAT, SPLITS, file_hashes
from broadbase.data.store.table import Table

Documents = Mapping[str, Ints]  # by side: which of the N documents it has
LISTED = 3  # rejects that a message shows


def join(
    snapshots: Mapping[str, Snapshot],
    folder: Path,
    codec: Codec,
    *,
    holdout: float,
    rejects: float,
    similarity: float,
    among: Numbers | None = None,
) -> None:
    """Index the shards of all sources of a modality at once.

    Of each cluster of duplicates the first document stays, and its content decides the side. So
    the result depends on the documents alone; should one side be empty, it gets the document that
    is nearest to it (of those `among` whose numbers it is, where given). DataError where more than
    `rejects` of a source's records cannot be used, or a side cannot but be empty.
    """
    tables = {name: Table.of(each, folder / name) for name, each in snapshots.items()}
    for name, table in tables.items():
        _within_budget(table, rejects, folder / name)
        if not len(table.ids):
            raise RejectedError(
                f"{name}: no record that can be used, of {table.counts['records']:,}"
                f"{_reasons(table)}",
                folder / name / "rejected.jsonl",
            )
    ids = np.concatenate([table.ids for table in tables.values()])
    sketches = [s for table in tables.values() for s in table.sketches]
    head, exact = clusters(ids, sketches, similarity)
    twins = np.flatnonzero(head != np.arange(len(ids)))
    alike = estimates(np.stack([head[twins], twins], axis=1), sketches)
    first = 0
    for name, table in tables.items():
        last = first + len(table.ids)
        kept = np.flatnonzero(head[first:last] == np.arange(first, last))
        numbers = numbers_of(table.ids[kept]) if among is None else among
        limit = threshold(numbers, holdout)
        table, documents = _split(table, kept, limit, holdout, codec, snapshots[name])
        in_source = (twins >= first) & (twins < last)
        wanted = snapshots[name].wanted
        if wanted.paired and getattr(wanted.source, "single", False):  # keys are names of files
            _own_keys(table, exact[first:last] - first)
        lines = [
            _twin(tables, ids, int(head[twin]), int(twin), float(share), exact)
            for twin, share in zip(twins[in_source], alike[in_source], strict=True)
        ]
        same = int((exact[twins[in_source]] != twins[in_source]).sum())
        counts = {
            **table.counts,
            "exact": same,
            "near": int(in_source.sum()) - same,
            **{side: len(chosen) for side, chosen in documents.items()},
        }
        _write(folder / name, snapshots[name], codec, table, documents, counts, lines)
        first = last


def _within_budget(table: Table, budget: float, store: Path) -> None:
    """Raise DataError where too large a share of the records, or of the bytes, cannot be used."""
    path, counts = store / "rejected.jsonl", table.counts
    write_text(path, "".join(line + "\n" for line in table.rejected))
    shares = [(counts["rejected"], counts["records"], "records")]
    shares += [(counts["lost"], max(table.size, counts["lost"]), "bytes")]
    if over := [(n, of, what) for n, of, what in shares if n > budget * of]:
        lost = " and ".join(f"{n:,} of {of:,} {what}" for n, of, what in over)
        raise RejectedError(
            f"{lost} cannot be used, more than the {budget:.1%} allowed (data.rejects):"
            f"{_reasons(table)}",
            path,
        )


def _reasons(table: Table) -> str:
    """Return the first reasons for which records were rejected."""
    rows = [json.loads(line) for line in table.rejected]
    rows = [row for row in rows if "empty" not in row["reason"]][:LISTED] or rows[:LISTED]
    return "".join(f"\n  {row['origin']}: {row['reason']}" for row in rows)


def _split(
    table: Table, kept: Ints, limit: np.uint64, holdout: float, codec: Codec, snapshot: Snapshot
) -> tuple[Table, Documents]:
    """Return which of the kept documents are on which side; a single one is cut in two.

    DataError where a side stays empty.
    """
    held = numbers_of(table.ids[kept]) < limit
    if held.any() and not held.all():
        return table, {"train": kept[~held], "validation": kept[held]}
    source, n = getattr(snapshot.wanted.source, "path", "the source"), table.counts["records"]
    if len(kept) > 1:
        raise DataError(
            f"all {len(kept)} records of {source} are of one group, and a group is never on both"
            " sides of the split; give records of another group, or no `group`"
        )
    modality, length = snapshot.wanted.modality, int(table.index[kept[0], 2]) if len(kept) else 0
    if not len(kept):
        what = "no record of its own: all are duplicates of another source's"
    elif length < 2 or snapshot.wanted.paired or not modality.divisible:
        what = f"one record alone (of {n:,}), and the split for validation takes at least two"
    else:
        sides = {"train": np.array([0]), "validation": np.array([1])}
        return table.divided(int(kept[0]), codec, holdout), sides
    raise DataError(f"{source} holds {what}; add more data to it")


def _own_keys(table: Table, exact: Ints) -> None:
    """Raise DataError where two files of a source have one key among paired sources."""
    again = np.flatnonzero((exact != np.arange(len(exact))) & (exact >= 0))
    if len(again):
        one, other = (table.origin(int(i)) for i in (exact[again[0]], again[0]))
        raise DataError(
            f"{one} and {other} have the same name without its ending, by which pairs are matched;"
            " rename one, or take it out"
        )


def _twin(
    tables: Mapping[str, Table], ids: Any, kept: int, twin: int, share: float, exact: Ints
) -> str:
    """Return what duplicates.jsonl says of a document that is left out."""

    def origin(i: int) -> str:
        for table in tables.values():
            if i < len(table.ids):
                return table.origin(i)
            i -= len(table.ids)
        raise AssertionError("a document of no table")

    row = {
        "origin": origin(twin),
        "id": bytes(ids[twin]).hex(),
        "kept": origin(kept),
        "kept_id": bytes(ids[kept]).hex(),
        "similarity": 1.0 if exact[twin] == kept else round(share, 3),
    }
    return json.dumps(row)


def _write(
    store: Path,
    snapshot: Snapshot,
    codec: Codec,
    table: Table,
    documents: Documents,
    counts: Mapping[str, int],
    duplicates: Sequence[str],
) -> None:
    """Write the index, then the manifest, which makes it count."""
    fingerprint, wanted = _fingerprint(table, documents, store / "codec"), snapshot.wanted
    index = store / f"index-{fingerprint[:16]}"
    with draft_folder(index, ours=is_index) as draft:
        for side in SPLITS:
            np.save(draft / f"{side}.npy", table.index[documents[side]], allow_pickle=False)
            np.save(draft / f"{side}.ids.npy", table.ids[documents[side]], allow_pickle=False)
    write_text(store / "duplicates.jsonl", "".join(line + "\n" for line in duplicates))
    names = [f"{index.name}/{path.name}" for path in sorted(index.iterdir())]
    hashes = {
        f"shards/{shard.folder.name}/{name}": facts
        for shard in table.shards
        for name, facts in shard.facts["hashes"].items()
    }
    manifest = {
        "format": FORMAT,
        "source": wanted.source.tree(),
        "modality": wanted.modality.tree(),
        "kind": wanted.name,
        "paired": wanted.paired,
        "licence": wanted.source.licence,
        "files": snapshot.files,
        "left_out": snapshot.left_out,
        "unit": codec.unit,
        "start": codec.start.tolist(),
        "end": None if codec.end is None else codec.end.tolist(),
        "counts": counts,
        "converted": table.converted,
        "index": index.name,
        "shards": [shard.folder.name for shard in table.shards],
        "hashes": {**hashes, **file_hashes(store, names)},
        "fingerprint": fingerprint,
    }
    write_json(store / "manifest.json", manifest, indent=1)
    for old in store.glob("index-*"):
        if old != index and is_index(old):
            discard(old)


def _fingerprint(table: Table, documents: Documents, codec: Path) -> str:
    """Return the SHA-256 of the documents' ids, side by side, and of the codec."""
    digest = hashlib.sha256()
    for side in SPLITS:
        digest.update(table.ids[documents[side]].tobytes() + side.encode())
    if table.cut:
        digest.update(str(table.cut).encode())
    fingerprint: str = add_files(digest, codec).hexdigest()
    return fingerprint
