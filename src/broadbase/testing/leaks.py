"""The check that no prediction depends on the value that it is to predict.

Every value of a batch is changed in turn. Where the target changes, and the encoder reads what it
read before, the prediction must stay. Legend: B rows, N tokens of a segment, S scored tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from broadbase.core.view import Segment, View
from broadbase.testing.promise import promise
from broadbase.testing.trial import Trial

EQUAL, NOTICED = 1e-5, 1e-4  # differences of predictions: of rounding, and of what was read
MOST = 20  # positions that are all tried; of longer rows every third is


def check_no_leak(trial: Trial) -> None:
    """Check an objective whose readouts have targets; BrokenPromiseError where one can be read."""
    trial = replace(trial, corrupt={k: _masking(c) for k, c in trial.corrupt.items()})
    before = trial.views()
    if not any(view.scored for view in before):
        return
    model, tried, noticed = trial.model().eval(), 0, False
    for changed in _changes(trial):
        for a, b in zip(before, changed.views(), strict=True):
            reads_other_B = _reads_other(a, b)
            with torch.no_grad():
                p, q = (model(_predicting(view)).predictions for view in (a, b))
            for number, (x, y) in enumerate(zip(a.scored, b.scored, strict=True)):
                change_BS = _change(p[str(number)], q[str(number)])
                target_BS = _differs(x.target, y.target) & (x.loss_weight > 0)
                hidden_BS = target_BS & ~reads_other_B.unsqueeze(1)
                noticed |= bool(change_BS.max() > NOTICED)
                tried += int(hidden_BS.sum())
                promise(
                    not hidden_BS.any() or float(change_BS[hidden_BS].max()) <= EQUAL,
                    f"a prediction of term {x.term!r} depends on its own target: the model reads"
                    " the value that it is to predict",
                )
    promise(tried > 0, "a changed value is a target of no view, so nothing is predicted")
    promise(noticed, "no prediction depends on any value of the batch")


def _changes(trial: Trial) -> Iterator[Trial]:
    """Yield the trial with one value of one source changed in every row."""
    for name, segment in trial.segments.items():
        length = segment.position.shape[1]
        for position in range(1, length, 1 if length < MOST else 3):
            changed = _changed(segment, position)
            yield trial.with_segments({**trial.segments, name: changed})


def _changed(segment: Segment, position: int) -> Segment:
    """Return rows with another value at one position: one that the row has elsewhere."""
    values = segment.values.clone()
    for row in values:
        other = (row[1:] != row[position]).reshape(len(row) - 1, -1).any(dim=1).nonzero()
        row[position] = row[1 + int(other[0])] if len(other) else row[position]
    return replace(segment, values=values)


def _masking(corruption: Any) -> Any:
    """Return the corruption with every chosen token masked, where some are swapped or kept."""
    hides = is_dataclass(corruption) and any(f.name == "hide" for f in fields(corruption))
    return replace(corruption, hide=1.0) if hides else corruption


def _predicting(view: View) -> View:
    """Return a view whose scored readouts predict, under their numbers, and score nothing."""
    numbers = iter(range(len(view.scored)))
    streams = tuple(
        replace(stream, readouts=tuple(s.predict(str(next(numbers))) for s in stream.scored))
        for stream in view.streams
    )
    return replace(view, streams=streams)


def _reads_other(a: View, b: View) -> Tensor:
    """Return the rows [B] in which a stream before the last reads another value."""
    other_B = torch.zeros(a.size, dtype=torch.bool)
    for one, other in zip(a.streams[:-1], b.streams[:-1], strict=True):
        for x, y in zip(one.value_segments, other.value_segments, strict=True):
            differs_BN = _differs(x.values, y.values)
            other_B |= (differs_BN if x.masked is None else differs_BN & ~x.masked).any(dim=1)
    return other_B


def _differs(one: Tensor, other: Tensor) -> Tensor:
    """Return where two tensors [B,S,...] of values differ: [B,S]."""
    differs = one != other
    return differs.flatten(2).any(dim=2) if differs.ndim > 2 else differs


def _change(one: Tensor, other: Tensor) -> Tensor:
    """Return the largest difference of two predictions [B,S,...] at each token: [B,S]."""
    change = (one - other).abs()
    return change.flatten(2).amax(dim=2) if change.ndim > 2 else change
