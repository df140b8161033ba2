"""Several adapters over one base, each for some rows of a batch (Chen et al. 2023, Punica).

Legend: B rows, T tokens, F outputs, K inputs, R rank, N adapters with the one that changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from broadbase.core.config import hint
from broadbase.core.errors import ConfigError
from broadbase.nn.adapters.adapted import AdaptedLinear, AnyModule, replaced, updates
from broadbase.nn.adapters.adapter import AdapterWeights, Update
from broadbase.nn.layer import Branch


class RowAdapters:
    """Which adapter each row of the next batches has, for all maps of a model.

    The copies of a model that are made for use, packed or in 8 bits, share it.
    """

    def __init__(self) -> None:
        """Start without adapters."""
        self.index_B: Tensor | None = None  # None: no row has one

    def __deepcopy__(self, memo: dict[int, Any]) -> RowAdapters:
        """Return itself."""
        return self


class MixedLinear(nn.Module):
    """A linear map with an update for each adapter; rows without an adapter have that of 0.

    Its own map may be packed or in 8 bits; it is not fused with others.
    """

    def __init__(self, linear: nn.Linear, updates: Sequence[Update], rows: RowAdapters) -> None:
        super().__init__()
        self.linear, self.rows = linear, rows
        stacked = stack([Update(), *updates], linear)
        for field in fields(stacked):
            self.register_buffer(field.name, getattr(stacked, field.name), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,...,K] to [B,...,F]."""
        index_B = self.rows.index_B
        if index_B is None:
            return self.linear(x)  # type: ignore[no-any-return]
        x_BTK = x.reshape(len(x), -1, x.shape[-1])
        if len(index_B) != len(x):
            raise ConfigError(
                f"adapters are chosen for {len(index_B)} rows, and the batch has {len(x)}"
            )
        chosen = Update(*(_of_rows(getattr(self, f.name), index_B) for f in fields(Update)))
        y_BTF = chosen.apply(self.linear, x_BTK, x_BTK)
        return y_BTF.view(*x.shape[:-1], -1)


def _of_rows(stacked: Tensor | None, index_B: Tensor) -> Tensor | None:
    """Return what each row has: matrices [B,F,R], and vectors as [B,1,F]."""
    rows = None if stacked is None else stacked[index_B]
    return rows if rows is None or rows.ndim == 3 else rows[:, None]


def stack(updates: Sequence[Update], linear: nn.Linear) -> Update:
    """Return updates as one with a leading dimension; smaller ranks are filled up with 0."""
    F, K = linear.weight.shape
    rank = max((len(u.down) for u in updates if u.down is not None), default=0)
    zeros = linear.weight.detach().new_zeros

    def joined(name: str, blank: Tensor) -> Tensor | None:
        values = [getattr(update, name) for update in updates]
        if all(value is None for value in values):
            return None
        rows = []
        for value in values:
            row = blank.clone()
            if value is not None:
                row[tuple(slice(size) for size in value.shape)] = value
            rows.append(row)
        return torch.stack(rows)

    return Update(
        joined("down", zeros(rank, K)),
        joined("up", zeros(F, rank)),
        joined("inputs", zeros(K) + 1),
        joined("gain", zeros(F) + 1),
        joined("shift", zeros(F)),
    )


@dataclass(frozen=True)
class Mixture:
    """A model with several adapters, which shares the parameters of the one without."""

    model: Any
    names: tuple[str, ...]
    rows: RowAdapters

    @contextmanager
    def chosen(self, adapters: Sequence[str | None]) -> Iterator[None]:
        """Give each row of the batches in this context an adapter; None: none."""
        index = [0 if name is None else 1 + self._number(name) for name in adapters]
        device = next(self.model.parameters()).device
        before = self.rows.index_B
        self.rows.index_B = torch.tensor(index, device=device) if any(index) else None
        try:
            yield
        finally:
            self.rows.index_B = before

    def _number(self, name: str) -> int:
        must_have(name, self.names)
        return self.names.index(name)


def must_have(name: str, names: Sequence[str]) -> None:
    """Raise ConfigError unless an adapter of that name is among the names."""
    if name not in names:
        raise ConfigError(f"no adapter is called {name!r}{hint(name, names)}")


def mixed(model: AnyModule, adapters: Mapping[str, AdapterWeights]) -> Mixture:
    """Return a model with all these adapters; ConfigError names one that is of another base."""
    each = [updates(model, weights, f"adapter {name!r}") for name, weights in adapters.items()]
    rows, paths = RowAdapters(), dict.fromkeys(path for some in each for path in some)
    for owner, branch in model.named_modules():
        inside = [path for path in paths if path.startswith(f"{owner}.")]
        if isinstance(branch, Branch) and not branch.keeps_rows and inside:
            raise ConfigError(
                f"{inside[0]} reads tokens of all rows at once, so that rows cannot have adapters"
                " of their own there; merge the adapter into a copy of the base"
            )

    def make(path: str, linear: nn.Linear) -> nn.Module:
        return MixedLinear(linear, [some.get(path, Update()) for some in each], rows)

    return Mixture(replaced(model, paths, make), tuple(adapters), rows)


def must_be_plain(model: nn.Module) -> None:
    """Raise ConfigError where a model has adapters, which its own settings do not describe."""
    for path, module in model.named_modules():
        if isinstance(module, AdaptedLinear | MixedLinear):
            raise ConfigError(
                f"{path} has an adapter, and a model folder has none; merge it, or save it apart"
            )
