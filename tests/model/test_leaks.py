"""Nothing leaks: not the hidden value, not the future, not the neighbour in the row."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Predict, Segment, Stream, View
from broadbase.modalities.noise import Hide, MaskOrSwap
from broadbase.objectives.masks import choose_masked
from support.models import tiny
from support.segments import images, packed

shapes = st.lists(st.integers(2, 8), min_size=1, max_size=3)


def predict(segment: Segment, pattern: str) -> torch.Tensor:
    view = View(
        (Stream("main", "main", (segment,), pattern, readouts=(Predict(segment.space, "p"),)),)
    )
    with torch.no_grad():
        return tiny(dtype=torch.float64)(view).predictions["p"]


def double(segment: Segment) -> Segment:
    return segment.map(lambda t: t.double() if t.is_floating_point() else t)


@settings(max_examples=25, deadline=None)
@given(shapes, st.integers(0, 99), st.data())
def test_causal_sees_nothing_later(sizes: list[int], seed: int, data: st.DataObject) -> None:
    segment = packed([sizes], sum(sizes), seed)
    index = data.draw(st.integers(1, sum(sizes) - 1))
    changed = segment.values.clone()
    changed[:, index] = (changed[:, index] + 7) % 256
    other = Segment(**{**segment.__dict__, "values": changed})
    a, b = predict(segment, "causal"), predict(other, "causal")
    assert torch.equal(a[:, :index], b[:, :index])
    assert not torch.equal(a[:, index], b[:, index])


@settings(max_examples=25, deadline=None)
@given(shapes, st.sampled_from(["causal", "full"]), st.integers(0, 99))
def test_packed_equals_apart(sizes: list[int], pattern: str, seed: int) -> None:
    row = packed([sizes], sum(sizes) + 3, seed)
    together = predict(row, pattern)[0]
    at = 0
    for size in sizes:
        part = row.map(lambda t, a=at, n=size: t[:, a : a + n])
        alone = Segment(part.space, part.values, part.position)
        assert torch.allclose(together[at : at + size], predict(alone, pattern)[0], atol=1e-12)
        at += size


@settings(max_examples=20, deadline=None)
@given(shapes, st.integers(0, 99))
def test_a_hidden_value_changes_no_prediction(sizes: list[int], seed: int) -> None:
    segment = packed([sizes], sum(sizes), seed)
    for name, value in (("bytes", segment), ("image", double(images(1, seed)))):
        batch = Batch(0, {"s": value}, KeyedRandom(seed, 0))
        corrupt = {"bytes": MaskOrSwap(258, hide=1.0), "image": Hide()}
        (view,) = ObjectiveConfig.named("masked")().build().views(batch, corrupt)
        (seen,), (read,) = view.streams[0].segments, view.streams[0].readouts
        assert seen.masked is not None
        assert read.index is not None
        hidden = seen.masked if seen.values.ndim == 2 else seen.masked.unsqueeze(-1)
        other = torch.where(hidden, torch.zeros_like(seen.values), seen.values)
        changed = Segment(**{**seen.__dict__, "values": other})
        assert torch.equal(predict(seen, "full"), predict(changed, "full")), name


@settings(max_examples=50, deadline=None)
@given(shapes, st.floats(0.05, 0.9), st.integers(0, 99))
def test_masked_chooses_targets_only_and_at_least_one(
    sizes: list[int], share: float, seed: int
) -> None:
    row = packed([sizes, [2]], sum(sizes) + 2, seed)
    assert row.loss_weight is not None
    B, N = row.loss_weight.shape
    draw = KeyedRandom(seed, 0).uniform("s", B, N)
    index, weight = choose_masked(draw, row.loss_weight, max(1, round(share * N)), share)
    assert (weight.sum(dim=1) >= 1).all()
    for b in range(B):
        chosen = index[b][weight[b] > 0].tolist()
        assert len(set(chosen)) == len(chosen)
        assert all(row.loss_weight[b, i] > 0 for i in chosen)


def test_padding_changes_nothing() -> None:
    row = packed([[6]], 6)
    longer = packed([[6]], 11)
    longer.values[:, :6] = row.values
    for pattern in ("causal", "full"):
        short, long = predict(row, pattern), predict(longer, pattern)
        assert torch.allclose(short, long[:, :6], atol=1e-12)
        assert torch.isfinite(long).all()
