"""Attention by blocks of queries whose logits stay in the cache, made of products of matrices.

PyTorch's fused kernel for CPUs multiplies small tiles by MKL. Where oneDNN is faster
(`machine.matmul`), whole blocks in its products are, though the backward has the logits anew; as in
the fused kernel they are never kept (Dao et al. 2022, FlashAttention).

Legend: B batch, H heads, P pairs of row and head in a piece, T queries, S keys, E head_dim.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from broadbase.nn.patterns import Mask

QUERIES = 128  # in a block
LOGITS = 2**18  # at once, if one row of the batch has so few: 1 MiB


def suits(q: Tensor, k: Tensor, mask: Mask) -> bool:
    """Whether blocks are the faster way, and the mask is one they know."""
    return (
        q.device.type == "cpu"
        and q.dtype == torch.float32
        and q.requires_grad
        and q.shape[1] == k.shape[1]
        and (mask.table is None or mask.table.dtype == torch.bool)
        and torch.get_float32_matmul_precision() == "medium"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float | None) -> Tensor:
    """softmax(scale q k) v of q [B,H,T,E], k and v [B,H,S,E], with the gradient of all three."""
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return TiledAttention.apply(q, k, v, mask.table, mask.causal, factor)  # type: ignore[no-any-return, no-untyped-call]


class TiledAttention(torch.autograd.Function):
    """One block of queries of some rows after another."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, causal: bool, scale: float
    ) -> Tensor:
        out = torch.empty_like(q)
        for rows in _pieces(q, k):
            q_PTE, k_PSE, v_PSE = (x[rows].flatten(0, 1) for x in (q, k, v))
            out_PTE = torch.empty_like(q_PTE)
            for block, seen, bias in _blocks(q[rows], k, table, rows, causal):
                weight = _weights(q_PTE[:, block], k_PSE[:, seen], bias, scale)
                torch.bmm(weight, v_PSE[:, seen], out=out_PTE[:, block])
            out[rows] = out_PTE.view(q[rows].shape)
        ctx.save_for_backward(q, k, v, out, table)
        ctx.causal, ctx.scale = causal, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, told: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, table = ctx.saved_tensors
        to_q, to_k, to_v = (torch.empty_like(x) for x in (q, k, v))
        for rows in _pieces(q, k):
            q_PTE, k_PSE, v_PSE, told_PTE = (x[rows].flatten(0, 1) for x in (q, k, v, told))
            mean_PT1 = (told[rows] * out[rows]).sum(dim=-1, keepdim=True).flatten(0, 1)
            to_q_PTE = torch.empty_like(q_PTE)
            to_k_PSE, to_v_PSE = torch.zeros_like(k_PSE), torch.zeros_like(v_PSE)
            for block, seen, bias in _blocks(q[rows], k, table, rows, ctx.causal):
                weight = _weights(q_PTE[:, block], k_PSE[:, seen], bias, ctx.scale)
                to_v_PSE[:, seen].baddbmm_(weight.mT, told_PTE[:, block])
                to_logits = torch.bmm(told_PTE[:, block], v_PSE[:, seen].mT)
                to_logits.sub_(mean_PT1[:, block]).mul_(weight).mul_(ctx.scale)
                torch.bmm(to_logits, k_PSE[:, seen], out=to_q_PTE[:, block])
                to_k_PSE[:, seen].baddbmm_(to_logits.mT, q_PTE[:, block])
            pieces = ((to_q, to_q_PTE), (to_k, to_k_PSE), (to_v, to_v_PSE))
            for whole, piece in pieces:
                whole[rows] = piece.view(whole[rows].shape)
        return to_q, to_k, to_v, None, None, None


def _weights(q: Tensor, k: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """softmax(scale q k + bias) of some queries and keys: [P,T,S]; 0 where nothing is seen."""
    if bias is None:
        return torch.bmm(q * scale, k.mT).softmax(dim=-1)
    weight = torch.baddbmm(bias, q, k.mT, alpha=scale).softmax(dim=-1)
    blind = bias.amax(dim=-1, keepdim=True) == -math.inf
    return weight.masked_fill_(blind, 0) if blind.any() else weight


def _pieces(q: Tensor, k: Tensor) -> Iterator[slice]:
    """Rows of the batch with not too many logits in a block."""
    heads, queries, keys = q.shape[1], min(q.shape[2], QUERIES), k.shape[2]
    size = max(1, LOGITS // (heads * queries * keys))
    return (slice(start, start + size) for start in range(0, len(q), size))


def _blocks(
    q: Tensor, k: Tensor, table: Tensor | None, rows: slice, causal: bool
) -> Iterator[tuple[slice, slice, Tensor | None]]:
    """Queries, the keys that some of them see, and 0 or minus infinity: [P,T,S] or [T,S]."""
    B, H, T, _ = q.shape
    for start in range(0, T, QUERIES):
        block = slice(start, min(start + QUERIES, T))
        seen = slice(0, block.stop if causal else k.shape[2])
        bias = None
        if causal:
            bias = q.new_full((block.stop - start, seen.stop), -math.inf).triu_(start + 1)
        elif table is not None:
            allowed = table[rows if len(table) > 1 else slice(None), :, block]
            bias = q.new_zeros(allowed.shape).masked_fill_(~allowed, -math.inf)
            bias = bias.expand(B, H, -1, -1).flatten(0, 1)
        yield block, seen, bias
