"""Every objective against its paper: what is seen, what is hidden, how often, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import combine
from broadbase.core.view import MaskedSegment, Segment, Stream, View, positions
from broadbase.modalities.noise import Hide, MaskOrSwap
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from broadbase.nn.experts import ExpertsConfig
from broadbase.objectives.denoising import even_spans, poisson_spans
from broadbase.objectives.documents import Document, assemble, documents
from broadbase.objectives.fim import to_fim
from broadbase.objectives.masks import BlockMaskConfig, SpanMaskConfig
from support.models import TOWER
from support.segments import images, packed
from support.training import trainer

MARKS = MaskOrSwap(258, extra_ids=40)
CORRUPT = {"bytes": MARKS, "image": Hide()}
BLOCK: Any = TOWER["layers"][0]["block"]  # type: ignore[index]
sizes = st.lists(st.lists(st.integers(2, 40), min_size=1, max_size=4), min_size=1, max_size=3)


def views(name: str, segment: Segment, step: int = 0, **fields: Any) -> tuple[View, ...]:
    objective = ObjectiveConfig.from_tree({"name": name, **fields}).build()
    return objective.views(Batch(step, {"s": segment}, KeyedRandom(0, step)), CORRUPT)


def model(dtype: torch.dtype = torch.float64) -> Model:
    tree = {
        "modalities": {
            "bytes": {"name": "bytes", "extra_ids": 40},
            "image": {"name": "image", "height": 4, "width": 4, "channels": 1, "patch": 2},
        },
        "heads": {"pixels": {"name": "regression", "channels": 4}},
        "towers": {
            "main": TOWER,
            "encoder": TOWER,
            "decoder": {
                **TOWER,
                "layers": [{"repeat": 2, "block": {**BLOCK, "cross": BLOCK["attention"]}}],
            },
        },
        "tower_of": {"pixels": "decoder"},
        "connectors": [{"name": "linear", "source": "encoder", "target": "decoder"}],
    }
    built = ModelConfig.from_tree(tree).build()
    initialise(built, 0)
    return built.to(dtype)


def rows(lengths: list[list[int]]) -> Segment:
    return packed(lengths, max(map(sum, lengths)))


def scores(view: View) -> torch.Tensor:
    with torch.no_grad():
        (score,) = model()(view).scores.values()
    return score


@given(sizes)
def test_documents_put_together_are_the_row(lengths: list[list[int]]) -> None:
    segment = rows(lengths)
    again = assemble("bytes", documents(segment), segment.position.shape[1])
    for name in ("order", "document", "loss_weight"):
        assert torch.equal(getattr(again, name), getattr(segment, name)), name
    assert segment.document is not None
    kept = segment.document >= 0
    assert torch.equal(again.values[kept], segment.values[kept])  # type: ignore[index]


def test_a_prefix_is_seen_in_full_and_is_no_target() -> None:
    """A later value of the prefix changes an earlier state, one after it does not."""
    segment = rows([[12]])
    (view,) = views("prefix", segment, step=3)
    (stream,) = view.streams
    (seen,) = stream.segments
    assert seen.order is not None
    prefix = int((seen.order[0] == 0).sum())
    assert 1 < prefix < 11
    (read,) = stream.readouts
    assert read.loss_weight[0].tolist() == [0] * (prefix - 1) + [1] * (12 - prefix)

    def states(changed: int) -> torch.Tensor:
        values = seen.values.clone()  # type: ignore[union-attr]
        if changed >= 0:
            values[0, changed] = (values[0, changed] + 9) % 256
        moved = replace(stream, segments=(replace(seen, values=values),), readouts=())
        with torch.no_grad():
            return model()(View((moved,))).streams["main"].x[0]

    plain = states(-1)
    assert not torch.allclose(states(prefix - 1)[0], plain[0])
    assert torch.equal(states(prefix)[:prefix], plain[:prefix])


@given(st.integers(4, 60), st.integers(0, 99), st.booleans())
def test_a_middle_reported_last_gives_the_document_back(n: int, seed: int, spm: bool) -> None:
    rng = np.random.default_rng(seed)
    document = Document(torch.arange(100, 100 + n), torch.tensor([0.0] + [1.0] * (n - 1)))
    i, j = sorted(rng.integers(1, n, 2).tolist())
    moved = to_fim(document, i, j, n - 1, (1, 2, 3), suffix_first=spm)
    values = moved.values.tolist()
    assert len(values) == n + 3
    assert [v for v, w in zip(values, moved.loss_weight.tolist(), strict=True) if w == 0] == (
        [100, 1, 2, 3]
    )
    marks = [values.index(mark) for mark in (1, 2, 3)]
    assert marks == sorted(marks)
    first, second, third = (values[a + 1 : b] for a, b in zip(marks, [*marks[1:], None]))  # noqa: B905
    complete = [100, *first, *third[:-1], *second, third[-1]]
    assert complete == document.values.tolist()


def test_half_of_the_documents_are_cut_and_half_of_those_suffix_first() -> None:
    segment = rows([[20] * 5] * 40)
    cut, spm = 0, 0
    for step in range(10):
        (view,) = views("fim", segment, step)
        values = view.streams[0].segments[0].values
        assert values is not None
        cut += int((values == MARKS.sentinels[0]).sum())
        spm += int(
            ((values[:, :-1] == MARKS.sentinels[0]) & (values[:, 1:] == MARKS.sentinels[1])).sum()
        )
    assert cut / 2000 == pytest.approx(0.5, abs=0.06)  # those cut off at a row's end are not seen
    assert spm / cut == pytest.approx(0.5, abs=0.09)  # and a prefix may be empty


def test_span_corruption_has_the_papers_rate_and_lengths() -> None:
    rng, lengths = np.random.default_rng(0), list[int]()
    for _ in range(400):
        spans = even_spans(512, 0.15, 3.0, rng)
        assert sum(length for _, length in spans) == 77  # round(0.15 * 512)
        assert len(spans) == 26  # round(77 / 3)
        assert all(a + n < b for (a, n), (b, _) in pairwise(spans))
        assert spans[0][0] >= 1
        assert spans[-1][0] + spans[-1][1] <= 512
        lengths += [length for _, length in spans]
    assert np.mean(lengths) == pytest.approx(77 / 26)
    # cut anywhere: P(length = 1) = (k - 1) / (total - 1)
    assert np.mean(np.array(lengths) == 1) == pytest.approx(25 / 76, abs=0.02)


def test_infilling_has_the_papers_rate_and_lengths() -> None:
    rng, lengths = np.random.default_rng(0), list[int]()
    for _ in range(400):
        spans = poisson_spans(500, 0.3, 3.0, rng)
        assert sum(length for _, length in spans) == 150
        assert all(a + n <= b for (a, n), (b, _) in pairwise(spans))
        assert spans[-1][0] + spans[-1][1] <= 500
        lengths += [length for _, length in spans]
    result = np.bincount(lengths, minlength=7)[:7] / len(lengths)
    poisson = np.array([np.exp(-3) * 3**k / np.prod(range(1, k + 1)) for k in range(7)])
    np.testing.assert_allclose(result, poisson, atol=0.015)  # the last of each document is cut


@settings(max_examples=30, deadline=None)
@given(sizes, st.integers(0, 99))
def test_span_corruption_loses_nothing(lengths: list[list[int]], step: int) -> None:
    """Marks in the encoder, filled with what the decoder tells after each, give the document."""
    segment = rows(lengths)
    (view,) = views("span_corruption", segment, step)
    encoder, decoder = view.streams
    output = decoder.segments[0]
    (read,) = decoder.readouts
    full = torch.cat([output.values, read.target[:, -1:]], dim=1)
    assert output.document is not None
    last = torch.where(read.loss_weight[:, -1:] > 0, output.document[:, -1:], -1)
    document = torch.cat([output.document, last], dim=1)
    for b, row in enumerate(documents(segment)):
        (given_row,) = documents(encoder.segments[0].map(lambda t, b=b: t[b : b + 1]))
        for number, (complete, part) in enumerate(zip(row, given_row, strict=True)):
            answer = full[b][document[b] == number].tolist()
            spans: dict[int, list[int]] = {}
            for value in answer[1:]:
                if value in MARKS.sentinels:
                    spans[value] = []
                else:
                    spans[list(spans)[-1]].append(value)
            filled = [v for x in part.values.tolist() for v in spans.get(x, [x])]
            assert filled == complete.values.tolist()
            assert [len(s) > 0 for s in spans.values()] == [True] * (len(spans) - 1) + [False]


@settings(max_examples=20, deadline=None)
@given(st.integers(6, 30), st.integers(6, 30), st.sampled_from(["span_corruption", "infilling"]))
def test_packed_documents_are_denoised_apart(a: int, b: int, name: str) -> None:
    """What the second document holds changes no score of the first."""
    segment = rows([[a, b]])
    (view,) = views(name, segment)
    plain = scores(view)
    encoder, decoder = view.streams
    given_, output = encoder.segments[0], decoder.segments[0]
    assert given_.document is not None
    other = torch.where(given_.document == 1, (given_.values + 5) % 256, given_.values)
    changed = replace(encoder, segments=(replace(given_, values=other),))
    moved = scores(View((changed, decoder)))
    assert output.document is not None
    first = (output.document[:, :-1] == 0) & (output.document[:, 1:] == 0)
    assert torch.equal(moved[:, :-1][first], plain[:, :-1][first])
    assert not torch.equal(moved, plain)


def test_spans_and_blocks_hide_what_was_requested() -> None:
    segment = packed([[100, 100]], 200)
    lengths = []
    for step in range(200):
        index, weight = SpanMaskConfig().choose(segment, 0.15, KeyedRandom(0, step), "s")
        assert int((weight > 0).sum()) == round(0.15 * 198)
        hidden = np.zeros(200, dtype=int)
        hidden[index[0].numpy()] = 1
        assert not hidden[[0, 100]].any()
        edges = np.flatnonzero(np.diff(np.concatenate([[0], hidden, [0]])))
        lengths += (edges[1::2] - edges[::2]).tolist()
    assert 3.0 < np.mean(lengths) < 5.0  # geometric, at most 10: 3.8; some touch, some are cut
    plane = torch.stack(torch.meshgrid(*map(torch.arange, (1, 14, 14)), indexing="ij"), -1)
    position = plane.reshape(1, 196, 3)
    image = Segment("image", torch.zeros(1, 196, 1), position)
    alone, holes = [], []
    for step in range(100):
        index, weight = BlockMaskConfig().choose(image, 0.4, KeyedRandom(0, step), "s")
        assert int((weight > 0).sum()) == 78
        mask = np.zeros((16, 16), dtype=bool)
        rows_, columns = position[0, index[0][weight[0] > 0], 1:].T.numpy() + 1
        mask[rows_, columns] = True
        next_to = sum(np.roll(mask, s, a) for s in (1, -1) for a in (0, 1))
        alone.append((mask & (next_to == 0)).sum())
        holes.append(next_to[mask].mean())
    assert np.mean(alone) < 1
    assert np.mean(holes) > 2.5  # neighbours hidden too, of 4; independent places have 1.5


def test_the_encoder_of_a_masked_autoencoder_computes_the_seen_quarter_alone() -> None:
    segment = images(6, 0).map(lambda t: t.double() if t.is_floating_point() else t)
    (view,) = views("mae", segment)
    encoder, decoder = view.streams
    N = segment.position.shape[1]
    hidden = decoder.segments[1].position.shape[1]
    assert hidden == round(0.75 * (N - 1))
    assert encoder.segments[0].position.shape[1] == N - hidden
    assert isinstance(decoder.segments[1], MaskedSegment)
    assert torch.isfinite(scores(view)).all()
    index = {tuple(p) for p in decoder.segments[1].position[0].tolist()}
    assert not index & {tuple(p) for p in encoder.segments[0].position[0].tolist()}


def flops(view: View) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model()(view)
    return int(counter.get_total_flops())


def test_the_encoder_of_a_masked_autoencoder_costs_a_quarter() -> None:
    """64 patches and the start: of 65 places 17 are computed."""
    values = torch.rand(2, 65, 4, dtype=torch.float64)
    weight = torch.ones(2, 65)
    weight[:, 0] = 0
    place = torch.cat([torch.zeros(1, 3, dtype=torch.int64), 1 + positions((8, 8))])
    segment = Segment("image", values, place.expand(2, -1, -1), loss_weight=weight)
    (view,) = views("mae", segment)
    complete = flops(View((Stream("encoder", "encoder", (segment,)),)))
    assert flops(View(view.streams[:1])) <= 17 / 65 * complete


def test_a_mixture_is_the_weighted_sum_of_its_parts() -> None:
    segment = rows([[9, 8], [15, 2]])
    tree = {"causal": ({"name": "causal"}, 3.0), "masked": ({"name": "masked"}, 1.0)}
    parts = {k: {"objective": o, "scale": s} for k, (o, s) in tree.items()}
    net, batch = model(), Batch(0, {"s": segment}, KeyedRandom(0, 0))

    def value(config: dict[str, Any]) -> float:
        objective = ObjectiveConfig.from_tree(config).build()
        made = objective.views(batch, CORRUPT)
        with torch.no_grad():
            loss = objective.loss([net(view) for view in made], made)
        return float(combine(loss, objective.term_weights(made)))

    complete = value({"name": "mixture", "components": parts})
    expected = 0.75 * value({"name": "causal"}) + 0.25 * value({"name": "masked"})
    assert complete == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="did you mean `text`"):
        ObjectiveConfig.from_tree(
            {"name": "mixture", "components": {"a": {**parts["causal"], "sources": ["txt"]}}}
        ).check(["text"])


def test_what_cannot_be_trained_is_refused_with_its_remedy() -> None:
    with pytest.raises(ConfigError, match=r"to mask parts of; use masks\.name=spans"):
        views("masked", rows([[20]]), masks={"name": "blocks"})
    with pytest.raises(ConfigError, match="holds vectors; use causal"):
        views("fim", images(2, 0))
    objective = ObjectiveConfig.from_tree({"name": "fim"}).build()
    batch = Batch(0, {"s": rows([[5]])}, KeyedRandom(0, 0))
    with pytest.raises(ConfigError, match=r"set model\.modalities\.bytes\.extra_ids=3"):
        objective.views(batch, {"bytes": MaskOrSwap(258)})


PARTS = {"a": {"objective": {"name": "causal"}}, "b": {"objective": {"name": "fim"}, "scale": 2.0}}
CUT = {
    "prefix": {},
    "induction": {},
    "fim": {},
    "span_corruption": {},
    "infilling": {},
    "masked": {"masks": {"name": "spans"}},
    "mixture": {"components": PARTS},
}


@pytest.mark.parametrize("name", CUT)
def test_the_gradient_is_the_same_however_a_batch_is_cut(name: str) -> None:
    segment = rows([[20, 5], [12], [3, 3, 9], [25]])
    made = views(name, segment, **CUT[name])
    gradients = []
    for pieces in (1, 2, 4):
        t = trainer(model(), "causal", pieces)
        t.objective = ObjectiveConfig.from_tree({"name": name, **CUT[name]}).build()
        t.accumulate(made)
        grads = [p.grad.flatten() for p in t.model.parameters() if p.grad is not None]
        gradients.append(torch.cat(grads))
    assert gradients[0].norm() > 0
    for other in gradients[1:]:
        assert (gradients[0] - other).norm() / gradients[0].norm() < 1e-10


def test_rows_that_are_no_pairs_are_refused_as_such() -> None:
    """A run draws image and text rows apart: a contrastive loss of them would mean nothing."""
    for name in ("infonce", "sigmoid"):
        with pytest.raises(ValueError, match=f"'{name}' needs image and text row by row"):
            ObjectiveConfig.from_tree({"name": name}).check({"image": None, "text": None})


def test_more_experts_than_there_are_cannot_be_chosen() -> None:
    with pytest.raises(ConfigError, match=r"top_k=9 is more than num_experts=8"):
        ExpertsConfig.from_tree({"hidden_width": 8, "top_k": 9})


def test_the_z_loss_is_a_term_of_its_own() -> None:
    """Its value and its gradient are those of the formula, and the likelihood does not change."""
    tree = {
        "modalities": {"bytes": {"name": "bytes", "z_loss_coef": 0.1}},
        "towers": {"main": TOWER},
    }
    net = ModelConfig.from_tree(tree).build()
    initialise(net, 0)
    net.double()
    segment = rows([[7, 5], [12]])
    t = trainer(net, "causal", 2)
    made = t.objective.views(Batch(0, {"s": segment}, KeyedRandom(0, 0)), CORRUPT)
    totals, shares = t.accumulate(made)
    result = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    net.zero_grad()
    (read,) = made[0].readouts
    hidden = net(View((replace(made[0].streams[0], readouts=()),))).streams["main"].x
    logits = net.spaces["bytes"].predict(hidden)
    weight = read.loss_weight.double()
    z = (logits.logsumexp(-1) ** 2 * weight).sum() / weight.sum()
    nll = torch.nn.functional.cross_entropy(logits.mT, read.target, reduction="none")
    ((nll * weight).sum() / weight.sum() + 0.1 * z).backward()
    expected = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    assert (result - expected).norm() / expected.norm() < 1e-10
    assert totals["bytes/z"] / shares["bytes/z"].weight == pytest.approx(z.item())
    assert shares["bytes/z"].scale == 0.1
    assert totals["s"] / shares["s"].weight == pytest.approx(
        ((nll * weight).sum() / weight.sum()).item()
    )
