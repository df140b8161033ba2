"""Finding: the files of a folder, those that some patterns match, and what is left out.

Links to folders are followed, and each folder is read once. Hidden files, and what operating
systems and notebooks leave in folders, are not data unless a pattern names them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from fsspec.utils import glob_translate
from upath import UPath

from broadbase.core.errors import DataError
from broadbase.data.sources.compressed import COMPRESSED

JUNK = frozenset(("__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "lost+found"))
LOCAL = ("", "file", "local")  # protocols of this machine
MOST = 6  # kinds of files that a message names


@dataclass
class Listing:
    """What is in a folder: paths relative to it, sorted, and what cannot be a file of data."""

    files: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)


def listing(root: UPath, *, hidden: bool = False) -> Listing:
    """Return the files in a folder and below; raise DataError where it cannot be listed at all."""
    listing = Listing()
    try:
        if root.protocol in LOCAL:
            _Walk(Path(root.path), listing, hidden).all()
        else:
            names = (str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
            listing.files = [name for name in names if hidden or not _concealed(name)]
    except Exception as error:  # of a store behind a URL: of almost any kind
        raise DataError(f"{root} cannot be listed: {error}") from None
    listing.files.sort()
    return listing


def check_pattern(pattern: str) -> str:
    """Return the same; raise ValueError where a glob is none, or leads out of the folder."""
    if not pattern.split():
        raise ValueError("a pattern is empty; write, for example, '**/*.txt'")
    for one in pattern.split():
        if one.startswith(("/", "~")) or ".." in one.split("/"):
            raise ValueError(
                f"the pattern {one!r} leads out of the folder; name the folder in `path`, and in"
                " `pattern` what is in it: '**/*.txt'"
            )
        glob_translate(one)
    return pattern


def matches(name: str, pattern: str, *, packed: bool = False) -> bool:
    """Return whether a relative path matches one of the globs, its ending in either case.

    Where `packed` is true, the ending of a packed file (.gz) may follow the given one.
    """
    return any(_globs(pattern).match(form) for form in _forms(name, packed))


def wants_hidden(pattern: str) -> bool:
    """Return whether one of the globs names hidden files."""
    return any(part.startswith(".") for one in pattern.split() for part in one.split("/"))


def endings(names: Iterable[str]) -> Counter[str]:
    """Return how many files there are of each ending."""
    return Counter(Path(name).suffix or Path(name).name for name in names)


def counted(kinds: Mapping[str, int]) -> str:
    """Return '20 .JPG, 4 .svg'."""
    most = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    more = sum(n for _, n in most[MOST:])
    parts = [f"{n:,} {kind}" for kind, n in most[:MOST]]
    return ", ".join([*parts, *([f"{more:,} others"] if more else [])])


@lru_cache(maxsize=256)
def _globs(pattern: str) -> re.Pattern[str]:
    return re.compile("|".join(glob_translate(one) for one in pattern.split()))


def _forms(name: str, packed: bool) -> Iterator[str]:
    """Yield a name, with its ending in lower case too, and without that of a packed file."""
    yield name
    folder, slash, last = name.rpartition("/")
    stem, dot, ending = last.partition(".")
    lower = f"{folder}{slash}{stem}{dot}{ending.lower()}"
    yield lower
    plain, _, suffix = lower.rpartition(".")
    if packed and f".{suffix}" in COMPRESSED:
        yield plain


def _concealed(name: str) -> bool:
    return any(part.startswith(".") or part in JUNK for part in name.split("/"))


@dataclass
class _Walk:
    """A walk over a folder of this machine; linked folders come after all that lie in it."""

    root: Path
    listing: Listing
    hidden: bool

    def all(self) -> None:
        above = self.root.resolve().parents
        self.above = {_identity(folder) for folder in above}
        self.seen: set[tuple[int, int]] = set()
        folders, links = [""], list[str]()
        while folders or links:
            if not folders:
                links.sort(reverse=True)
                folders.append(links.pop())
            folder = folders.pop()
            if self._new(folder):
                self._read(folder, folders, links)

    def _new(self, folder: str) -> bool:
        this = _identity(self.root / folder)
        if this in self.above:
            self.listing.left["link to a folder above"] += 1
            return False
        new = this not in self.seen
        self.seen.add(this)
        return new

    def _read(self, folder: str, folders: list[str], links: list[str]) -> None:
        try:
            entries = list(os.scandir(self.root / folder))
        except OSError as error:
            if not folder:
                raise
            self.listing.left[f"folder that cannot be read ({error.strerror})"] += 1
            return
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            kind = _kind(entry)
            if not self.hidden and _concealed(entry.name):
                self.listing.left["hidden"] += 1
            elif kind == "folder":
                (links if entry.is_symlink() else folders).append(name)
            elif kind == "file":
                self.listing.files.append(name)
            else:
                self.listing.left[kind] += 1


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link to itself
        return "broken link"
    return "broken link" if entry.is_symlink() else "device, pipe or socket"


def _identity(folder: Path) -> tuple[int, int]:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino
