"""What is to be prepared: a source with its modality, its parts at a moment, and shards to make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broadbase.core.contracts import ModalityConfig
from broadbase.core.sources import SourceChunk, SourceConfig


@dataclass(frozen=True)
class StoreRequest:
    """A source and what its records are."""

    source: SourceConfig
    modality: ModalityConfig
    name: str  # of the modality in the run: sources of one name share a codec
    paired: bool = False  # keys identify the documents, not their content


@dataclass(frozen=True)
class ShardTask:
    """What one shard is made of; says everything a worker needs, also on another machine."""

    folder: Path  # the store
    source: SourceConfig
    modality: ModalityConfig
    parts: tuple[SourceChunk, ...]
    digests: tuple[str, ...]  # of the parts' files
    removed: frozenset[str] = frozenset()  # ids that must not come back
    paired: bool = False

    @property
    def keys(self) -> list[str]:
        """Return what tells each part from all others, its content included."""
        digests = zip(self.parts, self.digests, strict=True)
        return [part_key(part, digest, self.paired) for part, digest in digests]

    @property
    def target(self) -> Path:
        """Return where the shard will lie."""
        name = hashlib.sha256(json.dumps(self.keys).encode()).hexdigest()[:16]
        return self.folder / "shards" / name

    @property
    def size(self) -> int:
        """Return how many bytes of source it reads."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Snapshot:
    """What a source consists of at a moment; looked at once, since there may be very many files."""

    wanted: StoreRequest
    files: Mapping[str, str]  # name: SHA-256
    parts: Sequence[SourceChunk]
    digests: Sequence[str]  # of the parts' files
    left_out: Mapping[str, int] = field(default_factory=dict)  # files that no source reads

    @classmethod
    def of(cls, wanted: StoreRequest, left_out: Mapping[str, int]) -> Snapshot:
        """Look at the source; DataError where there is nothing to read."""
        files, parts = wanted.source.fingerprint(), wanted.source.parts()
        listing_hash = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        part_hashes = [files.get(part.name, listing_hash) for part in parts]
        return cls(wanted, files, parts, part_hashes, left_out)

    @property
    def keys(self) -> list[str]:
        """Return what tells each part from all others, its content included."""
        pairs = zip(self.parts, self.digests, strict=True)
        return [part_key(part, digest, self.wanted.paired) for part, digest in pairs]


def part_key(part: SourceChunk, digest: str, paired: bool = False) -> str:
    """Return the name of a part: its origin, its content and what identifies its documents."""
    return f"{part.name}@{part.start}-{part.stop}:{digest}" + (":paired" if paired else "")
