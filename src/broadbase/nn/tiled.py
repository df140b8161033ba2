"""Attention by blocks of queries whose logits stay in the cache, made of products of matrices.

PyTorch's fused kernel for CPUs multiplies small tiles by MKL. Where oneDNN is faster
(`machine.matmul`), its products of larger blocks are faster too, although the backward computes the
logits again; as in the fused kernel they are never kept (Dao et al. 2022, FlashAttention).

Legend: B batch, H heads, P pairs of row and head, T queries, S keys, E head_dim.
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
    """Return whether blocks are faster here, and can apply the mask."""
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
    """Return softmax(scale q k) v of q [B,H,T,E], k and v [B,H,S,E]; all three have a gradient."""
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return TiledAttention.apply(q, k, v, mask.table, mask.causal, factor)  # type: ignore[no-any-return, no-untyped-call]


class TiledAttention(torch.autograd.Function):
    """softmax(scale q k) v, one block of queries of some rows after another."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, causal: bool, scale: float
    ) -> Tensor:
        """Return the means of values [B,H,T,E]."""
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
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of q, k and v."""
        q, k, v, out, table = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q, k, v))
        for rows in _pieces(q, k):
            q_PTE, k_PSE, v_PSE, grad_PTE = (x[rows].flatten(0, 1) for x in (q, k, v, grad_output))
            mean_PT1 = (grad_output[rows] * out[rows]).sum(dim=-1, keepdim=True).flatten(0, 1)
            grad_q_PTE = torch.empty_like(q_PTE)
            grad_k_PSE, grad_v_PSE = torch.zeros_like(k_PSE), torch.zeros_like(v_PSE)
            for block, seen, bias in _blocks(q[rows], k, table, rows, ctx.causal):
                weight = _weights(q_PTE[:, block], k_PSE[:, seen], bias, ctx.scale)
                grad_v_PSE[:, seen].baddbmm_(weight.mT, grad_PTE[:, block])
                grad_logits = torch.bmm(grad_PTE[:, block], v_PSE[:, seen].mT)
                grad_logits.sub_(mean_PT1[:, block]).mul_(weight).mul_(ctx.scale)
                torch.bmm(grad_logits, k_PSE[:, seen], out=grad_q_PTE[:, block])
                grad_k_PSE[:, seen].baddbmm_(grad_logits.mT, q_PTE[:, block])
            pieces = ((grad_q, grad_q_PTE), (grad_k, grad_k_PSE), (grad_v, grad_v_PSE))
            for grad, piece in pieces:
                grad[rows] = piece.view(grad[rows].shape)
        return grad_q, grad_k, grad_v, None, None, None


def _weights(q: Tensor, k: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Return softmax(scale q k + bias) of some queries and keys, [P,T,S]; 0 where none is seen."""
    if bias is None:
        return torch.bmm(q * scale, k.mT).softmax(dim=-1)
    weight = torch.baddbmm(bias, q, k.mT, alpha=scale).softmax(dim=-1)
    blind = bias.amax(dim=-1, keepdim=True) == -math.inf
    return weight.masked_fill_(blind, 0) if blind.any() else weight


def _pieces(q: Tensor, k: Tensor) -> Iterator[slice]:
    """Return slices of the rows, such that a block has at most LOGITS logits or one row."""
    heads, queries, keys = q.shape[1], min(q.shape[2], QUERIES), k.shape[2]
    size = max(1, LOGITS // (heads * queries * keys))
    return (slice(start, start + size) for start in range(0, len(q), size))


def _blocks(
    q: Tensor, k: Tensor, table: Tensor | None, rows: slice, causal: bool
) -> Iterator[tuple[slice, slice, Tensor | None]]:
    """Yield queries, the keys that some of them see, and their bias [P,T,S] or [T,S], 0 or -inf."""
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
