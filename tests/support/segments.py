"""Segments of random rows."""

from __future__ import annotations

import numpy as np
import torch

from broadbase.core.view import Segment, positions


def packed(lengths: list[list[int]], length: int, seed: int = 0) -> Segment:
    """Rows of random bytes: `lengths[b]` are the documents of row b, the rest is padding."""
    rng = np.random.default_rng(seed)
    rows = len(lengths)
    values = torch.from_numpy(rng.integers(0, 256, (rows, length)))
    document = torch.full((rows, length), -1)
    order = torch.zeros(rows, length, dtype=torch.int64)
    weight = torch.zeros(rows, length)
    for b, sizes in enumerate(lengths):
        at = 0
        for d, size in enumerate(sizes):
            document[b, at : at + size] = d
            order[b, at : at + size] = torch.arange(size)
            weight[b, at + 1 : at + size] = 1
            values[b, at] = 256
            at += size
    place = order.unsqueeze(-1).expand(-1, -1, 3)
    return Segment("bytes", values, place, order, document, loss_weight=weight)


def images(rows: int, seed: int = 0) -> Segment:
    """Rows of one 2 x 2-patch image each, with its start."""
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.integers(0, 16, (rows, 5, 4)) / 15).float()
    values[:, 0] = -1
    place = torch.cat([torch.zeros(1, 3, dtype=torch.int64), 1 + positions((2, 2))])
    weight = torch.ones(rows, 5)
    weight[:, 0] = 0
    return Segment("image", values, place.expand(rows, -1, -1), loss_weight=weight)
