"""Vector quantisation: a connector through which only ids pass, so that an encoder makes codes.

The codebooks learn by moving averages of what they stand for (van den Oord et al. 2017, appendix
A.1), over the whole batch of a step: counts and sums add up over micro-batches and ranks. A code
that is hardly used takes over half of the cell with the largest error (Linde, Buzo & Gray 1980), so
a codebook also begins by itself: one code for everything, and every step up to twice as many.

Legend: B rows, N places, M = B * N places, D width, E dimensions of a code, V codes of a codebook,
C codebooks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.loss import AuxLosses
from broadbase.nn.connector import Connector, ConnectorConfig

Share = Annotated[float, Field(ge=0, lt=1)]


class VectorQuantizerConfig(ConnectorConfig):
    """The nearest of `codes` vectors; of several codebooks each tells what those before left."""

    name: Literal["vector_quantizer"] = "vector_quantizer"
    codes: Annotated[int, Field(ge=2)] = 512
    codebooks: Annotated[int, Field(ge=1)] = 1
    code_dim: Annotated[int, Field(ge=1)] = 16  # few, so that all codes are used (Yu et al. 2022)
    decay: Share = 0.99
    commitment: Annotated[float, Field(ge=0)] = 0.25
    min_usage: Share = 0.05  # of an even use: a code used less is given to a larger cell

    def build(self, source: int, target: int) -> VectorQuantizer:
        return VectorQuantizer(self, source, target)


class VectorQuantizer(Connector):
    """widen(q), q the sum over codebooks of the code nearest to what is left of z = narrow(x).

    The gradient passes q as if it were z (van den Oord et al. 2017, 3.2). Charged is `commitment`:
    the mean over E of the squared error left by the first c codebooks, summed over c (Lee et al.
    2022, RQ-VAE, eq. 7; one codebook: van den Oord et al., eq. 3).
    """

    def __init__(self, config: VectorQuantizerConfig, source: int, target: int) -> None:
        super().__init__()
        self.commitment = config.commitment
        self.narrow = nn.Linear(source, config.code_dim)
        self.widen = nn.Linear(config.code_dim, target)
        self.codebooks = nn.ModuleList(
            Codebook(config.codes, config.code_dim, config.decay, config.min_usage)
            for _ in range(config.codebooks)
        )

    @property
    def _books(self) -> list[Codebook]:
        return [*self.codebooks]

    @property
    def aux_loss_weights(self) -> Mapping[str, float]:
        return {"commitment": self.commitment}

    def forward(self, x_BND: Tensor, document: Tensor | None = None) -> tuple[Tensor, AuxLosses]:
        z_BNE = _wide(self.narrow(x_BND))
        counts_BN = (
            torch.ones_like(z_BNE[..., 0]) if document is None else (document >= 0).to(z_BNE)
        )
        left_BNE, error_BN = z_BNE, torch.zeros_like(counts_BN)
        for codebook in self._books:
            ids_BN = codebook.nearest(left_BNE.detach())
            if self.training and torch.is_grad_enabled():
                codebook.accumulate(left_BNE.detach(), ids_BN, counts_BN)
            left_BNE = left_BNE - codebook.vectors[ids_BN]
            error_BN = error_BN + left_BNE.square().mean(dim=-1)
        y_BND = self.widen((z_BNE - left_BNE.detach()).to(x_BND.dtype))
        return y_BND, {"commitment": (error_BN * counts_BN).sum(dim=1)}

    def update_statistics(self, add: Callable[[Tensor], Tensor]) -> None:
        for codebook in self._books:
            codebook.update_statistics(add)

    @property
    def sizes(self) -> list[int]:
        """How many codes each codebook has."""
        return [len(codebook.size) for codebook in self._books]

    def encode(self, x_BND: Tensor) -> Tensor:
        """States to ids [B,N,C]."""
        left_BNE, ids = _wide(self.narrow(x_BND)), list[Tensor]()
        for codebook in self._books:
            ids.append(codebook.nearest(left_BNE))
            left_BNE = left_BNE - codebook.vectors[ids[-1]]
        return torch.stack(ids, dim=-1)

    def decode(self, ids_BNC: Tensor) -> Tensor:
        """Ids to what the target tower reads, [B,N,target]; the first codebooks alone will do."""
        pairs = zip(self._books, ids_BNC.unbind(dim=-1), strict=False)
        q_BNE = torch.stack([codebook.vectors[ids_BN] for codebook, ids_BN in pairs]).sum(dim=0)
        widened: Tensor = self.widen(q_BNE.to(self.widen.weight.dtype))
        return widened


class Codebook(nn.Module):
    """V vectors, each the moving average of the states it was nearest to; no gradient."""

    vectors: Tensor  # [V,E]
    size: Tensor  # [V] moving average of how many states a step it stands for

    def __init__(self, codes: int, dimensions: int, decay: float, least: float) -> None:
        super().__init__()
        self.decay, self.least = decay, least
        self.register_buffer("vectors", torch.zeros(codes, dimensions))
        self.register_buffer("size", torch.zeros(codes))
        self._noted: Tensor | None = None  # [V,1+2E] of this step: count, deviation, its square

    def nearest(self, z_BNE: Tensor) -> Tensor:
        """The code of the least squared distance: [B,N]."""
        return torch.cdist(z_BNE.flatten(0, 1), self.vectors).argmin(dim=-1).view(z_BNE.shape[:2])

    @torch.no_grad()
    def accumulate(self, z_BNE: Tensor, ids_BN: Tensor, counts_BN: Tensor) -> None:
        """Add the states that count to the statistics of this step."""
        deviation_BNE = z_BNE - self.vectors[ids_BN]
        each = torch.cat([torch.ones_like(z_BNE[..., :1]), deviation_BNE, deviation_BNE**2], dim=-1)
        if self._noted is None:
            self._noted = each.new_zeros(len(self.size), each.shape[-1])
        self._noted.index_add_(0, ids_BN.flatten(), (each * counts_BN[..., None]).flatten(0, 1))

    @torch.no_grad()
    def update_statistics(self, add: Callable[[Tensor], Tensor]) -> None:
        """One step of the moving averages, then hand over the codes that are hardly used.

        With N the sizes, m = N e the sums and n, sum z those of this step, the paper's
        N' = decay N + (1 - decay) n, m' = decay m + (1 - decay) sum z, e' = m' / N' is
        e' = e + (1 - decay) sum(z - e) / N'.
        """
        if self._noted is None:
            return
        noted, self._noted = add(self._noted), None
        E = self.vectors.shape[1]
        count_V1, deviation_VE, square_VE = noted[:, :1], noted[:, 1 : 1 + E], noted[:, 1 + E :]
        self.size.lerp_(count_V1[:, 0], 1 - self.decay)
        tiny = torch.finfo(self.size.dtype).tiny
        self.vectors += (1 - self.decay) * deviation_VE / self.size.clamp(min=tiny)[:, None]
        count_V1 = count_V1.clamp(min=1)
        self._hand_over(count_V1, square_VE / count_V1 - (deviation_VE / count_V1) ** 2)

    def _hand_over(self, count_V1: Tensor, variance_VE: Tensor) -> None:
        """Give the i-th code below `least` half of the cell with the i-th largest squared error.

        The two stand a standard deviation off its old place, along its widest axis.
        """
        dead_V = self.size < self.least * self.size.mean()
        error_V = (count_V1 * variance_VE.clamp(min=0)).sum(dim=1).masked_fill(dead_V, 0)
        number = min(int(dead_V.sum()), int((error_V > 0).sum()))
        to, of = (
            dead_V.nonzero()[:number, 0],
            error_V.argsort(descending=True, stable=True)[:number],
        )
        widest, axis = variance_VE[of].max(dim=1, keepdim=True)
        step = torch.zeros_like(self.vectors[of]).scatter(1, axis, widest.clamp(min=0).sqrt())
        self.vectors[to] = self.vectors[of] + step
        self.vectors[of] -= step
        self.size[of] /= 2
        self.size[to] = self.size[of]


def _wide(x: Tensor) -> Tensor:
    """In fp32 or better: distances in half precision would choose other codes."""
    return x.float() if x.element_size() < 4 else x
