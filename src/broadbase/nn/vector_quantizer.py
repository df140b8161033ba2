"""Vector quantisation: a connector through which only ids pass, so that an encoder makes codes.

The codebooks learn by moving averages of the states that they stand for (van den Oord et al. 2017,
appendix A.1), over the global batch of a step: counts and sums add up over micro-batches and ranks.
A code that is hardly used takes over half of the cell with the largest error (Linde, Buzo & Gray
1980). A codebook also begins in this way: with one code for everything, and with up to twice as
many after every step.

Legend: B rows, N tokens, D width, E dimensions of a code, V codes of a codebook, C codebooks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.loss import AuxLosses
from broadbase.nn.connector import Connector, ConnectorConfig

Fraction = Annotated[float, Field(ge=0, lt=1)]


class VectorQuantizerConfig(ConnectorConfig):
    """The nearest of `codes` vectors; a further codebook encodes the error of those before it."""

    name: Literal["vector_quantizer"] = "vector_quantizer"
    codes: Annotated[int, Field(ge=2)] = 512
    """The codes of each codebook."""
    codebooks: Annotated[int, Field(ge=1)] = 1
    """The number of codebooks, and so of ids of a token."""
    code_dim: Annotated[int, Field(ge=1)] = 16
    """The dimensions of a code; with few, all codes are used (Yu et al. 2022)."""
    decay: Fraction = 0.99
    """The decay of the moving averages, per step (van den Oord et al. 2017, A.1: 0.99)."""
    commitment: Annotated[float, Field(ge=0)] = 0.25
    """The coefficient of the commitment loss (van den Oord et al. 2017, 3.2: 0.25)."""
    min_usage: Fraction = 0.05
    """The use, relative to an even use, below which a code takes over half of a larger cell."""

    def build(self, source: int, target: int) -> VectorQuantizer:
        """Build the quantiser between towers of these widths."""
        return VectorQuantizer(self, source, target)


class VectorQuantizer(Connector):
    """widen(q), where q is the sum over codebooks of the code nearest to the rest of z = narrow(x).

    The rest is z minus the codes before. The gradient passes q as if it were z (van den Oord et al.
    2017, 3.2). The auxiliary loss `commitment` is the mean over E of the squared error after the
    first c codebooks, summed over c (Lee et al. 2022, RQ-VAE, eq. 7; with one codebook: van den
    Oord et al., eq. 3).
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
        """Return the coefficient of `commitment`."""
        return {"commitment": self.commitment}

    def forward(self, x_BND: Tensor, document: Tensor | None = None) -> tuple[Tensor, AuxLosses]:
        """Return vectors [B,N,target] of states [B,N,source], and `commitment` [B]."""
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
        """Update the codebooks by the statistics of the step."""
        for codebook in self._books:
            codebook.update_statistics(add)

    @property
    def sizes(self) -> list[int]:
        """Return how many codes each codebook has."""
        return [len(codebook.size) for codebook in self._books]

    def encode(self, x_BND: Tensor) -> Tensor:
        """Return the ids [B,N,C] of states [B,N,source]."""
        left_BNE, ids = _wide(self.narrow(x_BND)), list[Tensor]()
        for codebook in self._books:
            ids.append(codebook.nearest(left_BNE))
            left_BNE = left_BNE - codebook.vectors[ids[-1]]
        return torch.stack(ids, dim=-1)

    def decode(self, ids_BNC: Tensor) -> Tensor:
        """Return what the target tower reads for ids [B,N,C]: [B,N,target].

        Ids of the first codebooks alone give a coarser result.
        """
        pairs = zip(self._books, ids_BNC.unbind(dim=-1), strict=False)
        q_BNE = torch.stack([codebook.vectors[ids_BN] for codebook, ids_BN in pairs]).sum(dim=0)
        widened: Tensor = self.widen(q_BNE.to(self.widen.weight.dtype))
        return widened


class Codebook(nn.Module):
    """V vectors without gradient, each the moving average of the states that it is nearest to."""

    vectors: Tensor  # [V,E]
    size: Tensor  # [V] moving average of how many states each stands for in a step

    def __init__(self, codes: int, dimensions: int, decay: float, least: float) -> None:
        super().__init__()
        self.decay, self.least = decay, least
        self.register_buffer("vectors", torch.zeros(codes, dimensions))
        self.register_buffer("size", torch.zeros(codes))
        self._sums: Tensor | None = None  # [V,1+2E] of this step: count, deviation, its square

    def nearest(self, z_BNE: Tensor) -> Tensor:
        """Return the code [B,N] of the least squared distance to each state [B,N,E]."""
        return torch.cdist(z_BNE.flatten(0, 1), self.vectors).argmin(dim=-1).view(z_BNE.shape[:2])

    @torch.no_grad()
    def accumulate(self, z_BNE: Tensor, ids_BN: Tensor, counts_BN: Tensor) -> None:
        """Add states [B,N,E] to the statistics of this step, those of count 0 not."""
        deviation_BNE = z_BNE - self.vectors[ids_BN]
        each = torch.cat([torch.ones_like(z_BNE[..., :1]), deviation_BNE, deviation_BNE**2], dim=-1)
        if self._sums is None:
            self._sums = each.new_zeros(len(self.size), each.shape[-1])
        self._sums.index_add_(0, ids_BN.flatten(), (each * counts_BN[..., None]).flatten(0, 1))

    @torch.no_grad()
    def update_statistics(self, add: Callable[[Tensor], Tensor]) -> None:
        """Move the averages by one step, then hand over the codes that are hardly used.

        With N the sizes, m = N e the sums and n, sum z those of this step, the paper's
        N' = decay N + (1 - decay) n, m' = decay m + (1 - decay) sum z, e' = m' / N' is
        e' = e + (1 - decay) sum(z - e) / N'.
        """
        if self._sums is None:
            return
        sums, self._sums = add(self._sums), None
        E = self.vectors.shape[1]
        count_V1, deviation_VE, square_VE = sums[:, :1], sums[:, 1 : 1 + E], sums[:, 1 + E :]
        self.size.lerp_(count_V1[:, 0], 1 - self.decay)
        tiny = torch.finfo(self.size.dtype).tiny
        self.vectors += (1 - self.decay) * deviation_VE / self.size.clamp(min=tiny)[:, None]
        count_V1 = count_V1.clamp(min=1)
        self._hand_over(count_V1, square_VE / count_V1 - (deviation_VE / count_V1) ** 2)

    def _hand_over(self, count_V1: Tensor, variance_VE: Tensor) -> None:
        """Give the i-th code below `least` half of the cell with the i-th largest squared error.

        The two codes stand a standard deviation off its old vector, along its widest axis.
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
    """Return x in fp32 or better: distances in half precision would choose other codes."""
    return x.float() if x.element_size() < 4 else x
