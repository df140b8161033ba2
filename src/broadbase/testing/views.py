"""Checks of an objective's views and loss on one batch, and of a short training on it.

Legend: B rows, N tokens of a segment, S scored tokens.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from broadbase.core.errors import ConfigError
from broadbase.core.view import Score, Segment, View
from broadbase.testing.promise import promise, same
from broadbase.testing.trial import Trial

STEPS = 30
NEAR = 1e-4  # of a sum of scores in single precision, relative


def check_random(trial: Trial, views: tuple[View, ...]) -> None:
    """Check that views follow from the batch and its `rng` alone."""
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        promise(
            same(trial.views(), views),
            "views of one batch differ from call to call: all randomness must come from batch.rng,"
            " and an objective keeps no state",
        )


def check_readouts(views: tuple[View, ...]) -> None:
    """Check the shapes of targets, weights, indices and masks."""
    for stream in (stream for view in views for stream in view.streams):
        for segment in stream.value_segments:
            B, N = segment.position.shape[:2]
            masked = segment.masked
            promise(
                masked is None or (masked.dtype == torch.bool and masked.shape == (B, N)),
                f"masked of segment {segment.space!r} is bool [B,N] = [{B},{N}],"
                f" not {_described(masked)}",
            )
        length = sum(segment.position.shape[1] for segment in stream.segments)
        for score in stream.scored:
            _check_score(score, length)


def _check_score(score: Score, length: int) -> None:
    term, weight, rows = score.term, score.loss_weight, score.target.shape[:2]
    promise(
        weight.shape == rows,
        f"loss_weight of term {term!r} is [B,S] as its target is [B,S,...]:"
        f" got {_described(weight)} for {_described(score.target)}",
    )
    promise(
        bool(torch.isfinite(weight).all()) and bool((weight >= 0).all()),
        f"loss_weight of term {term!r} is finite and not negative",
    )
    if score.pooled:
        return
    index = score.tokens
    promise(
        index.shape == rows and bool(((index >= 0) & (index < length)).all()),
        f"index of term {term!r} has the position of each target in a stream of {length} tokens,"
        f" not {_described(index)}",
    )
    promise(
        score.index is not None or rows[1] == length,
        f"term {term!r} without an index has a target for each of {length} tokens",
    )


def check_sums(trial: Trial, views: tuple[View, ...]) -> None:
    """Check that the loss has the terms of `term_weights`, and that totals add up over rows."""
    model = trial.model().eval()
    totals, weights = totals_of(trial, model, views)
    promise(
        totals.keys() == weights.keys(),
        f"loss has the terms of term_weights: {sorted(totals)} and {sorted(weights)}",
    )
    promise(
        all(math.isfinite(total) for total in totals.values()),
        f"loss of a model at initialisation is finite, not {totals}",
    )
    if trial.objective.batch_coupled:
        return
    half = trial.rows // 2
    cuts = [tuple(view.rows(a, b) for view in views) for a, b in ((0, half), (half, trial.rows))]
    parts = [totals_of(trial, model, cut) for cut in cuts]
    for name, what in enumerate(("loss", "term_weights")):
        promise(
            _adds_up([part[name] for part in parts], (totals, weights)[name]),
            f"{what} of a batch is the sum over its rows, so that micro-batches add up: no mean",
        )
    ranks = [totals_of(trial, model, trial.views(rank, 2))[0] for rank in (0, 1)]
    promise(
        _adds_up(ranks, totals),
        "views of a row do not depend on the other rows of the batch: draw from batch.rng by the"
        " row's number, so that ranks see what one process sees",
    )


def totals_of(
    trial: Trial, model: torch.nn.Module, views: tuple[View, ...]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the total and the weight of every term of some views."""
    with torch.no_grad():
        loss = trial.objective.loss([model(view) for view in views], views)
    weights = trial.objective.term_weights(views)
    for name, total in loss.items():
        promise(total.shape == (), f"loss of term {name!r} is one number, not {_described(total)}")
    return (
        {name: float(total) for name, total in loss.items()},
        {name: weight.weight for name, weight in weights.items()},
    )


def check_padding(trial: Trial) -> None:
    """Check that values at padding change no loss, where the objective takes padded rows."""
    totals = []
    for turn in (0, 1):
        padded = {name: _padded(segment, turn) for name, segment in trial.segments.items()}
        try:
            views = trial.with_segments(padded).views()
        except ConfigError:
            return
        totals.append(totals_of(trial, trial.model().eval(), views))
    promise(
        all(_adds_up([one], other) for one, other in zip(*totals, strict=True)),
        "padding is no target and is not read: where document is -1, loss_weight is 0, and a target"
        " counts as its segment.loss_weight says",
    )


def _padded(segment: Segment, turn: int) -> Segment:
    """Return rows whose last third is padding, with values of another row by `turn`."""
    B, N = segment.position.shape[:2]
    start = N - N // 3
    values, position = segment.values.clone(), segment.position.clone()
    values[:, start:] = values[:, start:].roll(turn, dims=0)
    position[:, start:] = 0
    padding = torch.arange(N).expand(B, N) >= start
    return replace(
        segment,
        values=values,
        position=position,
        order=torch.arange(N).expand(B, N).masked_fill(padding, 0),
        document=torch.where(padding, -1, 0),
        loss_weight=segment.target_weight.masked_fill(padding, 0.0),
    )


def check_learning(trial: Trial) -> tuple[float, float]:
    """Check that a short training lowers the loss; return the sum of terms before and after."""
    trainer = trial.trainer(STEPS)
    before = sum(trainer.evaluate().values())
    trainer.train()
    after = sum(trainer.evaluate().values())
    promise(
        math.isfinite(after) and after < before,
        f"{STEPS} steps on one batch lower its loss, which went from {before:.4g} to {after:.4g}",
    )
    return before, after


def _adds_up(parts: list[dict[str, float]], total: Mapping[str, float]) -> bool:
    return all(
        math.isclose(sum(part.get(k, 0.0) for part in parts), v, rel_tol=NEAR, abs_tol=NEAR)
        for k, v in total.items()
    )


def _described(tensor: Tensor | None) -> str:
    return "None" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
