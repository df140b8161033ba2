"""Sample sets that are installed with Broadbase: Python's library, scikit-learn's digits."""

from __future__ import annotations

import hashlib
import importlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from broadbase.core.sources import Record, Reject, SourceConfig


class StandardLibraryConfig(SourceConfig):
    """The source files of the Python that runs this, without tests and `exclude`d packages."""

    name: Literal["standard_library"] = "standard_library"
    exclude: tuple[str, ...] = ()
    """The names of packages and folders that are left out."""

    @property
    def licence(self) -> str:
        """Return the terms under which the data may be used."""
        return "PSF-2.0"

    def files(self) -> list[Path]:
        """Return all files, sorted."""
        root = Path(sysconfig.get_paths()["stdlib"])
        away = {"site-packages", "dist-packages", "test", "tests", "idle_test", *self.exclude}
        files = (p for p in root.rglob("*.py") if not away & set(p.relative_to(root).parts))
        return sorted(files)

    def records(self) -> Iterator[Record | Reject]:
        """Yield the records and rejects in a fixed order."""
        for path in self.files():
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                yield Reject(str(path), str(error))
                continue
            if text.strip():
                yield Record(text, str(path))

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the records are made of."""
        return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in self.files()}


class DigitsConfig(SourceConfig):
    """Scikit-learn's 1,797 handwritten digits, 8 x 8 in 17 greys, from `first` to `last`."""

    name: Literal["digits"] = "digits"
    first: int = 0
    """The number of the first digit."""
    last: int = 1797
    """The number after that of the last digit."""

    @property
    def licence(self) -> str:
        """Return the terms under which the data may be used."""
        return "BSD-3-Clause (scikit-learn); UCI digits: CC-BY-4.0"

    def records(self) -> Iterator[Record | Reject]:
        """Yield the records and rejects in a fixed order."""
        digits = _digits()
        for i in range(self.first, min(self.last, len(digits.images))):
            image = digits.images[i] / 16.0
            yield Record(image, f"digits:{i}", label=str(digits.target[i]))

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the records are made of."""
        images = _digits().images[self.first : self.last]
        return {"sklearn.digits": hashlib.sha256(images.tobytes()).hexdigest()}


def _digits() -> Any:
    """Return scikit-learn's digits, imported late: it takes longer than most commands."""
    return importlib.import_module("sklearn.datasets").load_digits()
