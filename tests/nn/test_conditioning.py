"""Conditioning: layers start as the identity, follow the condition of each token, and leak none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from broadbase.core.contracts import TowerConfig
from broadbase.core.errors import ConfigError
from broadbase.core.view import Segment, Stream, Tokens, View, positions
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from broadbase.nn.tower import Transformer

WIDTH, T = 16, 6
HEADS = {"name": "grouped", "heads": 2, "kv_heads": 2, "head_dim": 8}


def config(residual: str = "adaptive", **settings: Any) -> dict[str, Any]:
    block = {
        "attention": HEADS,
        "feedforward": {"name": "gated", "hidden_width": 32},
        "residual": {"name": residual},
    }
    if residual == "adaptive":
        settings = {"noise_level": {"name": "fourier", "frequencies": 8}} | settings
    layers = [{"repeat": 2, "block": block}]
    return {"name": "transformer", "width": WIDTH, "layers": layers, **settings}


def tower(trained: bool, **settings: Any) -> Transformer:
    """A tower in float64 as it starts, or with modulations that are not zero."""
    built: Transformer = TowerConfig.from_tree(config(**settings)).build().double()
    initialise(built, 0)
    if trained:
        for block in built.blocks:
            for residual in (block.attention, block.feedforward):
                torch.nn.init.normal_(residual.modulation.weight, std=0.3)
    return built


def inputs(document: list[int] | None = None) -> tuple[Tensor, Tokens]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, T, WIDTH, generator=generator, dtype=torch.float64)
    level = torch.rand(2, T, generator=generator, dtype=torch.float64)
    packed = None if document is None else torch.tensor(document).expand(2, -1)
    position = positions((T,)).expand(2, -1, -1)
    return x, Tokens(position, document=packed, noise_level=level)


def test_layers_start_as_the_identity() -> None:
    x, tokens = inputs()
    output = tower(trained=False, final_norm=None)(x, tokens, "full")
    assert torch.equal(output.x, x)


def test_the_first_step_reaches_the_modulation_and_then_the_condition() -> None:
    """At zero the gates learn; once they are not zero the embedding of the level does."""
    x, tokens = inputs()
    built = tower(trained=False)
    built(x, tokens, "full").x.square().sum().backward()
    gate = built.blocks[0].attention.modulation.weight.grad[2 * WIDTH :]
    assert gate.abs().sum() > 0
    assert built.noise_level.first.weight.grad.abs().sum() == 0
    built = tower(trained=True)
    level = tokens.noise_level.clone().requires_grad_()
    built(x, replace(tokens, noise_level=level), "full").x.square().sum().backward()
    assert built.noise_level.first.weight.grad.abs().sum() > 0
    assert (level.grad != 0).all()


def test_the_level_of_one_document_does_not_reach_another() -> None:
    """Two packed documents and padding: a level changes its own document alone."""
    x, tokens = inputs([0, 0, 1, 1, -1, -1])
    built = tower(trained=True)
    before = built(x, tokens, "full").x
    for changed, reached in (([2], [2, 3]), ([4, 5], [4, 5])):
        level = tokens.noise_level.clone()
        level[:, changed] += 0.3
        after = built(x, replace(tokens, noise_level=level), "full").x
        others = [i for i in range(T) if i not in reached]
        assert torch.equal(after[:, others], before[:, others])
        assert not torch.allclose(after[:, reached], before[:, reached])


def test_tokens_before_a_causal_change_stay_the_same() -> None:
    x, tokens = inputs()
    built, level = tower(trained=True), tokens.noise_level.clone()
    level[:, 3] += 0.3
    before = built(x, tokens, "causal").x
    after = built(x, replace(tokens, noise_level=level), "causal").x
    assert torch.equal(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3:], before[:, 3:])


def test_registers_have_the_condition_of_the_first_token() -> None:
    x, tokens = inputs()
    built = tower(trained=True, registers=2)
    assert built(x, tokens, "full", condition=torch.ones_like(x)).x.shape == x.shape


def test_a_condition_that_no_layer_reads_is_refused() -> None:
    x, tokens = inputs()
    plain = TowerConfig.from_tree(config("pre")).build().double()
    with pytest.raises(ConfigError, match="has no `noise_level`"):
        plain(x, tokens, "full")
    with pytest.raises(ConfigError, match="no layer of its tower reads one"):
        plain(x, replace(tokens, noise_level=None), "full", condition=torch.ones_like(x))
    with pytest.raises(ConfigError, match="has no condition"):
        tower(trained=False)(x, replace(tokens, noise_level=None), "full")


def model() -> Model:
    modalities = {"bytes": {"name": "bytes"}, "kind": {"name": "bytes"}}
    tree = {"modalities": modalities, "towers": {"main": config()}}
    built = ModelConfig.from_tree(tree).build().double()
    initialise(built, 0)
    for block in built.towers["main"].blocks:
        torch.nn.init.normal_(block.attention.modulation.weight, std=0.3)
    return built


def test_a_view_conditions_by_level_and_by_class() -> None:
    """Segments carry levels and a stream carries a class: each row follows its own."""
    values = torch.arange(2 * T).view(2, T)
    position = positions((T,)).expand(2, -1, -1)
    level = torch.full((2, T), 0.5)

    def states(kind: list[int], level: Tensor) -> Tensor:
        condition = Segment("kind", torch.tensor(kind)[:, None], positions((1,)).expand(2, -1, -1))
        segment = Segment("bytes", values, position, noise_level=level)
        view = View((Stream("main", "main", (segment,), condition=(condition,)),))
        return built(view.rows(0, 2)).streams["main"].x

    built = model()
    before = states([3, 4], level)
    other_class = states([3, 5], level)
    assert torch.equal(other_class[0], before[0])
    assert not torch.allclose(other_class[1], before[1])
    other_level = states([3, 4], torch.cat([level[:1], level[1:] + 0.2]))
    assert torch.equal(other_level[0], before[0])
    assert not torch.allclose(other_level[1], before[1])
