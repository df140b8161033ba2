"""The softmax slot: how the logits of attention become a mean of values.

Legend: B batch, T queries, S keys, H query heads, G key-value heads, E head_dim.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from broadbase.core.config import Slot
from broadbase.nn import tiled
from broadbase.nn.patterns import Mask
from broadbase.nn.tensor_parallel import TensorParallel


class SoftmaxConfig(Slot):
    """A way to turn logits into weights of values."""

    package: ClassVar[str] = "nn"

    @abstractmethod
    def build(self, heads: int) -> nn.Module:
        """Build the module (q [B,H,T,E], k [B,G,S,E], v [B,G,S,E], mask, scale) -> [B,H,T,E]."""


class PlainSoftmaxConfig(SoftmaxConfig):
    """softmax(scale q k) v by PyTorch's fused kernels, or by blocks where they are faster."""

    name: Literal["plain"] = "plain"

    def build(self, heads: int) -> nn.Module:
        """Build the module; the number of heads does not matter."""
        return PlainSoftmax()


class PlainSoftmax(nn.Module):
    """softmax(scale q k) v, without parameters."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float | None) -> Tensor:
        """Return the means of values [B,H,T,E] for q [B,H,T,E], k and v [B,G,S,E]."""
        if (
            mask.table is not None and mask.table.requires_grad
        ):  # fused kernels have no gradient of it
            return _mean(_softmax(mask.add(_logits(q, k, scale))), v)
        if tiled.suits(q, k, mask):
            return tiled.attention(q, k, v, mask, scale)
        with _small_products(q):
            return F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask.matched(q.dtype),
                is_causal=mask.causal,
                scale=scale,
                enable_gqa=q.shape[1] != k.shape[1],
            )


class CappedConfig(SoftmaxConfig):
    """Soft-capped logits: cap * tanh(logit / cap) (Gemma 2; 2408.00118, 2)."""

    name: Literal["capped"] = "capped"
    softcap: float
    """The bound of the logits, which stay between -softcap and softcap."""

    def build(self, heads: int) -> nn.Module:
        """Build the module; the number of heads does not matter."""
        return Capped(self.softcap)


class Capped(nn.Module):
    """softmax(cap * tanh(scale q k / cap)) v, without parameters."""

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float | None) -> Tensor:
        """Return the means of values [B,H,T,E] for q [B,H,T,E], k and v [B,G,S,E]."""
        logits_BHTS = self.cap * torch.tanh(_logits(q, k, scale) / self.cap)
        return _mean(_softmax(mask.add(logits_BHTS)), v)


class SinksConfig(SoftmaxConfig):
    """A learned logit for each head, which takes weight and has no value (gpt-oss)."""

    name: Literal["sinks"] = "sinks"

    def build(self, heads: int) -> nn.Module:
        """Build the module with a sink for each of `heads`."""
        return Sinks(heads)


class Sinks(nn.Module, TensorParallel):
    """A softmax over the logits and the sink of the head, so that a token may read nothing."""

    unsplittable = "learns numbers for every head"

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.sink = nn.Parameter(torch.zeros(heads))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float | None) -> Tensor:
        """Return the means of values [B,H,T,E] for q [B,H,T,E], k and v [B,G,S,E]."""
        logits_BHTS = mask.add(_logits(q, k, scale))
        sink_BHT1 = self.sink.to(q.dtype).view(1, -1, 1, 1).expand(*logits_BHTS.shape[:-1], 1)
        return _mean(_softmax(torch.cat([logits_BHTS, sink_BHT1], dim=-1))[..., :-1], v)


@contextmanager
def _small_products(q: Tensor) -> Iterator[None]:
    """Let PyTorch's own library multiply in this context, where oneDNN does on a CPU.

    The fused kernel multiplies tiles of a row and head, and to call oneDNN for each costs more than
    its products: 6 times the time with 13 tokens, 3 times with 128.
    """
    before = torch.get_float32_matmul_precision()
    if q.device.type != "cpu" or before == "highest" or torch.compiler.is_compiling():
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _logits(q_BHTE: Tensor, k_BGSE: Tensor, scale: float | None) -> Tensor:
    factor = 1 / math.sqrt(q_BHTE.shape[-1]) if scale is None else scale
    q_BHTE = q_BHTE if factor == 1 else q_BHTE * factor
    return q_BHTE @ _shared(k_BGSE, q_BHTE.shape[1]).transpose(-1, -2)


def _softmax(logits: Tensor) -> Tensor:
    """Return the softmax over the last axis, computed in fp32 or better."""
    wide = logits.float() if logits.element_size() < 4 else logits
    return wide.softmax(dim=-1).to(logits.dtype)


def _mean(weight_BHTS: Tensor, v_BGSE: Tensor) -> Tensor:
    return weight_BHTS @ _shared(v_BGSE, weight_BHTS.shape[1])


def _shared(x_BGSE: Tensor, heads: int) -> Tensor:
    """Return keys or values [B,G,S,E] for every query head, [B,H,S,E]."""
    groups = x_BGSE.shape[1]
    return x_BGSE if groups == heads else x_BGSE.repeat_interleave(heads // groups, dim=1)
