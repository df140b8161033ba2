"""Chance as an argument: every draw is a pure function of (seed, step, source, row)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def seed_of(seed: int, *names: str | int) -> list[int]:
    """Entropy for numpy's SeedSequence from a seed and names; stable over versions and machines."""
    return [seed, *(zlib.crc32(n.encode()) if isinstance(n, str) else n for n in names)]


@dataclass(frozen=True)
class KeyedRandom:
    """Uniform numbers keyed by row: no split of a batch over micro-batches or ranks shows."""

    seed: int
    step: int
    first: int = 0  # the first row's number among the step's rows of its source
    stride: int = 1  # ranks take every stride-th row

    def uniform(self, name: str, rows: int, count: int) -> Tensor:
        """Draw numbers in [0,1) for `rows` rows of source `name`: [rows, count], float64."""
        numbers = [self.generator(name, i).random(count) for i in range(rows)]
        return torch.from_numpy(np.array(numbers).reshape(rows, count))

    def generator(self, name: str, row: int) -> np.random.Generator:
        """Return the random generator of one row of source `name`."""
        key = seed_of(self.seed, name, self.step, self.first + row * self.stride)
        return np.random.default_rng(key)
