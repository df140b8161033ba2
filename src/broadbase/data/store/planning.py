"""Which shards a store lacks, and which of those it has are still good."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from broadbase.core.files import discard
from broadbase.core.sources import SourceChunk
from broadbase.data.store.ownership import is_shard
from broadbase.data.store.requests import ShardTask, Snapshot
from broadbase.data.store.shards import NAME, Shard, codec_digest, finished
from broadbase.data.store.store import read_facts

MEBI = 1 << 20
SHARD, PARTS = 16 * MEBI, 4096  # a shard has so many bytes of source, or so many parts of it
OLD_DRAFT = re.compile(r"\..+\.\d+\.draft")  # of a shard, by an earlier version
LOST = "put a copy back: it lists what must not come back"
Removed = list[str]


def plan(snapshot: Snapshot, store: Path, removed: frozenset[str] = frozenset()) -> list[ShardTask]:
    """Return the shards that a store still lacks.

    Those that are damaged, hold a `removed` document, or whose codec or parts changed or went are
    deleted.
    """
    keys = dict(zip(snapshot.keys, zip(snapshot.parts, snapshot.digests, strict=True), strict=True))
    codec, wanted = codec_digest(store / "codec"), snapshot.wanted
    covered: set[str] = set()
    good: set[str] = set()
    for shard in finished(store):
        shard_keys = set(shard.facts["keys"])
        same = shard.facts.get("codec", codec) == codec  # earlier versions did not say
        if same and shard_keys <= keys.keys() - covered and not _holds(shard, removed):
            covered |= shard_keys
            good.add(shard.folder.name)
    for left in (store / "shards").glob("*"):
        ours = NAME.fullmatch(left.name) or OLD_DRAFT.fullmatch(left.name)
        if ours and left.name not in good:
            discard(left, is_shard)
    missing = [pair for key, pair in keys.items() if key not in covered]
    return [
        ShardTask(
            store, wanted.source, wanted.modality, tuple(part for part, _ in group),
            tuple(digest for _, digest in group), removed, wanted.paired,
        )
        for group in _groups(missing)
    ]  # fmt: skip


def _holds(shard: Shard, removed: frozenset[str]) -> bool:
    """Return whether one of these ids is in a shard."""
    if not removed or not shard.documents:
        return False
    gone = np.frombuffer(bytes.fromhex("".join(sorted(removed))), "V16")
    ids = np.ascontiguousarray(shard.array("ids")).view("V16").ravel()
    return bool(len(np.intersect1d(ids, gone)))


def removed_ids(folder: Path) -> frozenset[str]:
    """Return the ids of documents that were removed from stores and must not come back."""
    lists = [folder / "removed.json", *folder.glob("*/removed.json")]  # earlier: one a store
    return frozenset(i for path in lists if path.exists() for i in read_facts(path, Removed, LOST))


def _groups(
    parts: Sequence[tuple[SourceChunk, str]],
) -> Iterator[tuple[tuple[SourceChunk, str], ...]]:
    """Yield parts in order, together at least SHARD bytes a group, or PARTS of them."""
    group: list[tuple[SourceChunk, str]] = []
    size = 0
    for part, digest in parts:
        group.append((part, digest))
        size += part.size
        if size >= SHARD or len(group) == PARTS:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)
