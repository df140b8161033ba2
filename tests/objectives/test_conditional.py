"""Conditional: what is given is seen, what is told is not, and asking is as it was learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import combine
from broadbase.core.view import Predict, Segment, View, positions
from broadbase.inference.autoregressive import SamplingConfig, continued
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from broadbase.objectives.properties import PropertiesConfig
from support.models import TOWER
from support.segments import images, packed

BLOCK: Any = TOWER["layers"][0]["block"]  # type: ignore[index]
CROSS = {**TOWER, "layers": [{"repeat": 2, "block": {**BLOCK, "cross": BLOCK["attention"]}}]}
WAYS: dict[str, dict[str, Any]] = {
    "encoder": {"name": "seq2seq", "encoder": "main", "decoder": "decoder"},
    "prefix": {"name": "prefix_conditional"},
    "through": {"name": "prefix_conditional", "through": "decoder"},
}
sizes = st.lists(st.integers(2, 6), min_size=3, max_size=3)


def model(seed: int = 0) -> Model:
    tree = {
        "modalities": {
            "bytes": {"name": "bytes"},
            "image": {"name": "image", "height": 4, "width": 4, "channels": 1, "patch": 2},
        },
        "towers": {"main": TOWER, "decoder": CROSS},
        "tower_of": {},
        "connectors": [{"name": "linear", "source": "decoder", "target": "main"}],
    }
    built = ModelConfig.from_tree(tree).build()
    initialise(built, seed)
    return built.double()


def pair(given_: list[int], message: list[int]) -> Batch:
    """A byte string and the one that belongs to it, in each row."""
    first = packed([[n] for n in given_], max(given_), seed=1)
    second = packed([[n] for n in message], max(message), seed=2)
    return Batch(0, {"given": first, "told": second}, KeyedRandom(0, 0))


def objective(way: str) -> Any:
    return ObjectiveConfig.from_tree({"source": "given", "target": "told", **WAYS[way]}).build()


def predictions(net: Model, view: View) -> Tensor:
    """What is predicted where the view scores."""
    last = view.streams[-1]
    (read,) = last.readouts
    requested = replace(last, readouts=(Predict(read.head, "p", index=read.index),))
    with torch.no_grad():
        return net(View((*view.streams[:-1], requested))).predictions["p"]


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=10, deadline=None)
@given(sizes, sizes, st.data())
def test_all_that_is_given_counts_and_nothing_later(
    way: str, first: list[int], second: list[int], data: st.DataObject
) -> None:
    batch, net = pair(first, second), model()
    (view,) = objective(way).views(batch, {})
    plain = predictions(net, view)
    row = data.draw(st.integers(0, 2))

    def changed(source: str, place: int) -> Tensor:
        segment = batch.segments[source]
        values = segment.values.clone()  # type: ignore[union-attr]
        values[row, place] = (values[row, place] + 9) % 256
        segments = {**batch.segments, source: replace(segment, values=values)}
        (other,) = objective(way).views(replace(batch, segments=segments), {})
        return predictions(net, other)

    other = changed("given", data.draw(st.integers(0, first[row] - 1)))
    assert not torch.allclose(other[row, 0], plain[row, 0], atol=1e-9)
    assert torch.equal(other[row - 1], plain[row - 1])
    if first[row] < max(first):  # padding
        (read,) = view.streams[-1].readouts
        scored = read.loss_weight > 0
        assert torch.equal(changed("given", first[row])[scored], plain[scored])
    place = data.draw(st.integers(1, second[row] - 1))
    other = changed("told", place)
    assert torch.equal(other[row, :place], plain[row, :place])
    if place < second[row] - 1:
        assert not torch.allclose(other[row, place], plain[row, place], atol=1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_telling_place_by_place_is_what_was_trained(way: str) -> None:
    """Greedy telling, cached and from givens of different lengths, is the likeliest of one pass."""
    net, first = model(), [3, 6, 4]
    made = objective(way)
    batch = pair(first, [2, 2, 2])
    start = batch.segments["told"].map(lambda t: t[:, :1])
    view = made.view(batch.segments["given"], start, ())
    offset = 0 if way == "encoder" else torch.tensor(first)[:, None]
    following = [(torch.full((3, 3), i) + offset) for i in range(1, 8)]
    choose = SamplingConfig(temperature=0).build()
    message = torch.cat(list(continued(net, view, torch.stack(following), choose)), dim=1)
    complete = torch.cat([start.values, message], dim=1)
    place = torch.arange(8).expand(3, -1)
    segment = Segment(
        "bytes",
        complete,
        place.unsqueeze(-1).expand(-1, -1, 3),
        place,
        torch.zeros_like(place),
        loss_weight=torch.ones(3, 8),
    )
    (full,) = made.views(replace(batch, segments={**batch.segments, "told": segment}), {})
    assert torch.equal(predictions(net, full).argmax(dim=-1), message)


@pytest.mark.parametrize("way", WAYS)
def test_a_pair_of_kinds_is_learned(way: str) -> None:
    """Pictures given, the row's number told: from chance to nothing left to tell."""
    net = model().float()
    shown = images(4, seed=3)
    values = torch.tensor([[256, 48 + i, 257] for i in range(4)])
    place = positions((3,)).expand(4, -1, -1)
    weight = torch.tensor([[0.0, 1.0, 1.0]] * 4)
    batch = Batch(
        0,
        {"given": shown, "told": Segment("bytes", values, place, loss_weight=weight)},
        KeyedRandom(0, 0),
    )
    made, optim = objective(way), torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(150):
        views = made.views(batch, {})
        loss = combine(made.loss([net(v) for v in views], views), made.term_weights(views))
        optim.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optim.step()
    assert float(loss.detach()) < 0.3  # chance: log(4) / 2 = 0.69


def test_properties_are_reported_from_the_mean_of_a_record() -> None:
    """The score is that of the target's Space at the pooled places, and no place but those."""
    net = model()
    shown, recorded = images(4, seed=3), packed([[2], [2], [2], [2]], 2)
    shown = shown.map(lambda t: t.double() if t.is_floating_point() else t)
    made = PropertiesConfig(source="image", target="class").build()
    (view,) = made.views(Batch(0, {"image": shown, "class": recorded}, KeyedRandom(0, 0)), {})
    with torch.no_grad():
        output = net(view)
        pooled = output.streams["main"].x.mean(dim=1)
        logits = net.spaces["bytes"].predict(pooled)  # type: ignore[operator]
    expected = torch.nn.functional.cross_entropy(logits, recorded.values[:, 1], reduction="none")
    torch.testing.assert_close(output.scores["class"][:, 0], expected)
