"""A batch whose rows depend on each other, in pieces: cached gradients (Gao et al. 2021, 3.2).

The outputs of all pieces are computed without a graph and cut off (`leaves`); the loss of all of
them (`join`) stores in each its own gradient; then each piece is computed once more, with
its graph, and pulled along that gradient (`pull`). One piece's graph is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from broadbase.core.view import Output


def leaves(output: Output) -> Output:
    """Detach the scores and predictions; each begins a graph of its own."""

    def cut(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.detach().requires_grad_() for name, value in values.items()}

    return Output({}, cut(output.scores), cut(output.predictions))


def join(pieces: Sequence[Output]) -> Output:
    """Join the outputs of one view's pieces into the output of the view."""

    def rows(values: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.cat([each[name] for each in values]) for name in values[0]}

    return Output({}, rows([p.scores for p in pieces]), rows([p.predictions for p in pieces]))


def pull(outputs: Sequence[Output], owed: Sequence[Output]) -> Tensor:
    """Sum every value times the gradient that its leaf holds: its gradient is the loss's."""
    parts = [
        (value * leaf.grad).sum()
        for value, leaf in zip(_values(outputs), _values(owed), strict=True)
        if leaf.grad is not None
    ]
    return sum(parts[1:], start=parts[0])


def _values(outputs: Sequence[Output]) -> Iterator[Tensor]:
    for output in outputs:
        yield from output.scores.values()
        yield from output.predictions.values()
