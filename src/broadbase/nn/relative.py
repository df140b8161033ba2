"""Relative positions as a bias of attention.

Legend: B batch, Q queries, K keys, H heads.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.view import Tokens
from broadbase.nn.positions import Positions, PositionsConfig, unbroadcast
from broadbase.nn.tensor_parallel import TensorParallel


class T5RelativeBiasConfig(PositionsConfig):
    """A learned bias for each head and bucket of distances (T5; Raffel et al. 2020, 2.1).

    All layers share one table. Near distances have a bucket each, farther ones share buckets of
    logarithmic size, and the last bucket takes all from `max_distance` on.
    """

    name: Literal["t5_bias"] = "t5_bias"
    buckets: Annotated[int, Field(ge=4)] = 32
    """The number of buckets."""
    max_distance: Annotated[int, Field(ge=2)] = 128
    """The distance in tokens from which on all share the last bucket."""
    bidirectional: bool = True
    """Whether half of the buckets are for later keys, which otherwise share the bucket of 0."""

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        """Build the module with a bias for each of `heads`."""
        return T5RelativeBias(self, heads)


class T5RelativeBias(Positions, TensorParallel):
    """The bias of T5, by the time axis of the positions."""

    unsplittable = "learns numbers for every head"

    def __init__(self, config: T5RelativeBiasConfig, heads: int) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.buckets, heads)

    def bias(self, queries: Tokens, keys: Tokens) -> Tensor:
        """Return the bias of the attention logits, [B,H,Q,K]."""
        c = self.config
        query_BQ, key_BK = unbroadcast(queries.position)[..., 0], unbroadcast(keys.position)[..., 0]
        distance_BQK = key_BK[:, None] - query_BQ[..., None]
        line_N = torch.arange(-c.max_distance, c.max_distance + 1, device=distance_BQK.device)
        line_NH = self.table(bucket(line_N, c.buckets, c.max_distance, c.bidirectional))
        return look_up(
            line_NH, distance_BQK.clamp(-c.max_distance, c.max_distance) + c.max_distance
        )


def bucket(distance: Tensor, buckets: int, furthest: int, both: bool) -> Tensor:
    """Return the bucket of each distance, key minus query in tokens: 0 to buckets - 1.

    Of the n buckets of one side, the first n / 2 hold one distance each. A longer distance d is in
    bucket n / 2 + log(d / (n / 2)) / log(furthest / (n / 2)) * n / 2, rounded down.
    """
    side = buckets // 2 if both else buckets
    offset = side * (distance > 0) if both else torch.zeros_like(distance)
    distance = distance.abs() if both else (-distance).clamp(min=0)
    near = side // 2
    ratio = (distance.clamp(min=near).float() / near).log() / math.log(furthest / near)
    far = (near + (ratio * (side - near)).long()).clamp(max=side - 1)
    return offset + torch.where(distance < near, distance, far)


class RelativeBias2DConfig(PositionsConfig):
    """A learned bias for each head and offset in a plane (BEiT; Bao et al. 2022).

    A start token at (0, 0, 0) has three biases: where it reads, where it is read, and where it
    reads itself. Layers with one number of `table` share it.
    """

    name: Literal["relative_2d"] = "relative_2d"
    rows: Annotated[int, Field(ge=1)]
    """The rows of the plane."""
    columns: Annotated[int, Field(ge=1)]
    """The columns of the plane."""
    table: int = 0
    """The number of the table; layers with the same number share one."""

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        """Build the module with a bias for each of `heads`."""
        return RelativeBias2D(self, heads)


class RelativeBias2D(Positions, TensorParallel):
    """The bias of BEiT, by row and column of the positions."""

    unsplittable = "learns numbers for every head"

    def __init__(self, config: RelativeBias2DConfig, heads: int) -> None:
        super().__init__()
        self.rows, self.columns = config.rows, config.columns
        self.table = nn.Embedding((2 * config.rows - 1) * (2 * config.columns - 1) + 3, heads)

    def bias(self, queries: Tokens, keys: Tokens) -> Tensor:
        """Return the bias of the attention logits, [B,H,Q,K]."""
        query_BQ3, key_BK3 = unbroadcast(queries.position), unbroadcast(keys.position)
        offset_BQK = offsets(query_BQ3, key_BK3, self.rows, self.columns)
        return look_up(self.table.weight, offset_BQK)


def look_up(table_NH: Tensor, index_BQK: Tensor) -> Tensor:
    """Look up the bias [B,H,Q,K] of indices [B,Q,K] in a table [N,H].

    It is looked up head by head: the gradient then adds up faster than that of an embedding.
    """
    heads = table_NH.shape[1]
    bias_HM = table_NH.T.gather(1, index_BQK.flatten().expand(heads, -1))
    return bias_HM.view(heads, *index_BQK.shape).transpose(0, 1)


def offsets(query: Tensor, key: Tensor, rows: int, columns: int) -> Tensor:
    """Return the number [B,Q,K] of the offset of positions [B,Q,3] and [B,K,3] in a plane.

    Offsets are query minus key, row by row. Last come those of the start token: where it reads,
    where it is read, and where it reads itself.
    """
    down, right = (query[:, :, None, axis] - key[:, None, :, axis] for axis in (1, 2))
    count = (2 * rows - 1) * (2 * columns - 1)
    plane = (down + rows - 1) * (2 * columns - 1) + right + columns - 1
    reads, is_read = query[:, :, None, 1] == 0, key[:, None, :, 1] == 0
    start = torch.where(reads & is_read, count + 2, torch.where(reads, count, count + 1))
    return torch.where(reads | is_read, start, plane)
