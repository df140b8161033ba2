"""Embedders and heads: what the base classes give to all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from broadbase.core.errors import ConfigError
from broadbase.core.spaces import Embedder, Head
from broadbase.core.view import MaskedSegment, Predict, Segment, Stream, View, positions
from broadbase.model.model import Model, ModelConfig
from support.models import TOWER


class Plain(Embedder):
    def embed_values(self, values: torch.Tensor) -> torch.Tensor:
        return values


class Masked(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.tensor([5.0, 6.0]))


class Double(Head):
    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def test_masked_positions_are_embedded_as_the_mask_vector() -> None:
    values, masked = torch.ones(1, 3, 2), torch.tensor([[False, True, False]])
    x = Masked().embed(values, masked)
    assert x[0, 1].tolist() == [5, 6]
    assert torch.equal(x[0, [0, 2]], values[0, [0, 2]])
    assert Masked().mask_tokens(2, 3).shape == (2, 3, 2)


def test_what_has_no_mask_vector_refuses_masked_positions() -> None:
    values = torch.ones(1, 3, 2)
    assert torch.equal(Plain().embed(values), values)
    with pytest.raises(ConfigError, match="Plain has no mask vector"):
        Plain().embed(values, torch.zeros(1, 3, dtype=torch.bool))
    with pytest.raises(ConfigError, match="Plain has no mask vector"):
        Plain().mask_tokens(1, 3)


def test_a_head_samples_its_prediction_and_pools_by_the_mean() -> None:
    x = torch.arange(6.0).reshape(1, 3, 2)
    head = Double()
    assert torch.equal(head.sample(head.predict(x), lambda logits: logits), 2 * x)
    document = torch.tensor([[0, 0, -1]])
    assert head.pooled(x, document).tolist() == [[1, 2]]
    with pytest.raises(ConfigError, match="Double predicts no values"):
        head.score(x, x)


def test_an_abstract_embedder_or_head_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract method"):
        Embedder()  # type: ignore[abstract]
    with pytest.raises(TypeError, match="abstract method"):
        Head()  # type: ignore[abstract]


IMAGE = {"name": "published_image", "size": 4, "patch": 2, "channels": 1}
IMAGE |= {"mean": [0.5], "deviation": [0.5]}


def model(**changes: Any) -> Model:
    tree = {
        "modalities": {"image": IMAGE, "bytes": {"name": "bytes"}},
        "heads": {"pixels": {"name": "regression", "channels": 4}},
        "towers": {"main": TOWER},
    }
    return ModelConfig.from_tree(tree | changes).build()


def pass_of(space: str, head: str) -> View:
    values = torch.zeros(1, 4, 4)
    segment = Segment(space, values, positions((2, 2))[None])
    return View((Stream("main", "main", (segment,), readouts=(Predict(head, "x"),)),))


def test_what_only_embeds_is_not_predicted_and_what_only_predicts_is_not_read() -> None:
    assert model()(pass_of("image", "pixels")).predictions["x"].shape == (1, 4, 4)
    with pytest.raises(ConfigError, match=r"'image' has no output head.*model\.heads"):
        model()(pass_of("image", "image"))
    with pytest.raises(ConfigError, match=r"'pixels' is a head and embeds no values.*image, bytes"):
        model()(pass_of("pixels", "pixels"))
    with pytest.raises(ConfigError, match="no modality or head 'sound'"):
        model()(pass_of("image", "sound"))


def test_a_masked_segment_is_the_mask_vector_of_its_head() -> None:
    net = model()
    nn.init.normal_(net.spaces["pixels"].mask)  # type: ignore[arg-type]
    segment = MaskedSegment("pixels", positions((2, 2))[None])
    x, _ = net._embed(Stream("main", "main", (segment,)), {}, {}, {})
    assert torch.equal(x, net.space("pixels").mask_tokens(1, 4))


def test_a_head_has_a_name_that_no_modality_has() -> None:
    with pytest.raises(ConfigError, match=r"heads\.bytes: a modality is called so too"):
        model(heads={"bytes": {"name": "regression", "channels": 4}})
