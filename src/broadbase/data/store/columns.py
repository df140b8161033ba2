"""Arrays on disk that grow at their end, in NumPy's format."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEP = 1 << 20  # values that are copied at once


class Column:
    """An array on disk that grows at its end; ids below 65,536 take two bytes when it closes."""

    HEADER = 128

    def __init__(self, path: Path, like: NDArray[Any]) -> None:
        """Create the file; values have the dtype and the axes of `like`."""
        self.path, self.shape, self.rows, self.largest = path, like.shape[1:], 0, 0
        self.dtype = {"i": np.dtype("<u4"), "f": np.dtype("<f4")}.get(like.dtype.kind, like.dtype)
        if path.stem in ("lengths", "units", "grids", "origin_ends"):
            self.dtype = np.dtype("<i8")
        self.file = path.open("wb")
        self.file.write(b"\0" * self.HEADER)

    def append(self, array: NDArray[Any]) -> None:
        """Append rows."""
        self.rows += len(array)
        if self.dtype == np.dtype("<u4") and array.size:
            self.largest = max(self.largest, int(array.max()))
        self.file.write(np.ascontiguousarray(array, dtype=self.dtype).tobytes())

    def cut(self, rows: int) -> None:
        """Take back all but the first `rows`."""
        self.rows = rows
        self.file.seek(self.HEADER + rows * math.prod(self.shape) * self.dtype.itemsize)
        self.file.truncate()

    def close(self) -> None:
        """Write the header and close the file."""
        self._header(self.dtype)
        self.file.close()
        if self.path.stem == "values" and self.dtype == np.dtype("<u4") and self.largest < 1 << 16:
            self._narrow()

    def _header(self, dtype: np.dtype[Any]) -> None:
        """Write the .npy header (format 1.0), padded to a fixed size so that it can come last."""
        facts = {"descr": dtype.str, "fortran_order": False, "shape": (self.rows, *self.shape)}
        text = repr(facts).encode()
        self.file.seek(0)
        self.file.write(b"\x93NUMPY\x01\x00" + (self.HEADER - 10).to_bytes(2, "little"))
        self.file.write(text.ljust(self.HEADER - 11) + b"\n")

    def _narrow(self) -> None:
        narrow, left = self.path.with_suffix(".u2"), self.rows * math.prod(self.shape)
        with self.path.open("rb") as wide, narrow.open("wb") as self.file:
            wide.seek(self.HEADER)
            self._header(np.dtype("<u2"))
            while left:  # not mapped: its pages would count as this process's memory
                block = np.fromfile(wide, "<u4", min(left, STEP))
                self.file.write(block.astype("<u2").tobytes())
                left -= len(block)
        narrow.replace(self.path)
