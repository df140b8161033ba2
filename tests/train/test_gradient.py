"""The gradient is that of one big batch, however the batch is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.contracts import Batch
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import combine
from broadbase.core.view import Segment
from support.models import tiny
from support.segments import images, packed
from support.training import trainer


def gradient(batch: Batch, objective: str, micro_batches: int, dtype: torch.dtype) -> torch.Tensor:
    model = tiny(dtype=dtype)
    t = trainer(model, objective, micro_batches)
    t.accumulate(t.objective.views(_cast(batch, dtype), t.corrupt))
    parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat(parts)


def _cast(batch: Batch, dtype: torch.dtype) -> Batch:
    def cast(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    segments = {name: segment.map(cast) for name, segment in batch.segments.items()}
    return Batch(batch.step, segments, batch.rng)


@pytest.mark.parametrize("objective", ["causal", "masked"])
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("micro_batches", [2, 3, 4])
def test_same_for_any_split(
    batch: Batch, objective: str, dtype: torch.dtype, bar: float, micro_batches: int
) -> None:
    full = gradient(batch, objective, 1, dtype)
    cut = gradient(batch, objective, micro_batches, dtype)
    assert full.norm() > 0
    assert (full - cut).norm() / full.norm() < bar


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.integers(2, 9), min_size=1, max_size=3), min_size=2, max_size=6),
    st.integers(2, 6),
    st.integers(0, 99),
)
def test_same_for_any_documents(lengths: list[list[int]], pieces: int, seed: int) -> None:
    batch = Batch(
        0, {"prose": packed(lengths, 27, seed), "digits": images(6, seed)}, KeyedRandom(seed, 0)
    )
    pieces = min(pieces, len(lengths))
    full = gradient(batch, "causal", 1, torch.float64)
    cut = gradient(batch, "causal", pieces, torch.float64)
    assert (full - cut).norm() / full.norm() < 1e-10


def test_a_mean_of_means_would_fail(batch: Batch) -> None:
    """The naive average over micro-batches differs: the test above can fail."""
    model = tiny(dtype=torch.float64)
    t = trainer(model, "causal")
    views = t.objective.views(_cast(batch, torch.float64), t.corrupt)
    for i in range(2):
        micro = [v.rows(v.size * i // 2, v.size * (i + 1) // 2) for v in views]
        loss = combine(
            t.objective.loss([model(v) for v in micro], micro), t.objective.term_weights(micro)
        )
        (loss / 2).backward()
    naive = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    full = gradient(batch, "causal", 1, torch.float64)
    assert (full - naive).norm() / full.norm() > 1e-3


def test_micro_batches_beyond_the_rows_are_refused(batch: Batch) -> None:
    t = trainer(tiny(), "causal", micro_batches=5)
    with pytest.raises(ConfigError, match="micro_batches=5 is more than the 4 rows"):
        t.accumulate(t.objective.views(batch, t.corrupt))


def test_a_loss_that_is_not_finite_halts_before_the_step(batch: Batch) -> None:
    from broadbase.core.errors import DivergedError

    model = tiny()
    with torch.no_grad():
        model.spaces["bytes"].embedding.weight[5] = torch.nan
    before = {k: v.clone() for k, v in model.state_dict().items()}
    t = trainer(model, "causal")
    with pytest.raises(DivergedError, match=r"prose is nan.*not taken.*lower learning rate"):
        t._advance(batch)
    after: dict[str, Any] = model.state_dict()
    assert all(torch.equal(before[k].nan_to_num(), after[k].nan_to_num()) for k in before)
    assert t.step == 0


def test_weights_are_those_of_the_reads(batch: Batch) -> None:
    t = trainer(tiny(), "causal")
    shares = t.objective.term_weights(t.objective.views(batch, t.corrupt))
    prose: Segment = batch.segments["prose"]
    assert prose.loss_weight is not None
    assert shares["prose"].weight == float(prose.loss_weight.sum())
    assert shares["digits"].weight == 4 * 4
