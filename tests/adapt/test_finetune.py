"""What fine-tuning trains: everything, with a rate for each layer, or the head alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.methods.finetune import FinetuneConfig, layer_shares
from broadbase.adapt.task import Task
from support.bases import mixed_base


def moved(method: FinetuneConfig) -> dict[str, float]:
    """How far each parameter of the base went in training."""
    base = mixed_base()
    task = Task.from_records(
        "t", "bytes", [f"{'ab'[i % 2]}{i}" for i in range(20)], list("ab") * 10
    )
    fitted = method.fit(Encoder(base, "bytes"), task, np.arange(20))
    after = fitted.base.model.state_dict()
    return {
        name: float((after[name] - value).abs().max())
        for name, value in base.model.state_dict().items()
    }


def test_a_frozen_base_does_not_move() -> None:
    frozen = moved(FinetuneConfig(steps=3, batch=4, only_head=True))
    assert frozen
    assert set(frozen.values()) == {0.0}
    free = moved(FinetuneConfig(steps=3, batch=4))
    assert max(free.values()) > 0


def test_layers_near_the_input_move_less() -> None:
    """AdamW's first step is the learning rate, whatever the gradient."""
    far = moved(FinetuneConfig(steps=1, batch=8, lr=1e-3, weight_decay=0, layer_decay=0.1))
    blocks = [
        max(v for k, v in far.items() if k.startswith(f"towers.main.blocks.{i}.")) for i in (0, 1)
    ]
    embedded = max(v for k, v in far.items() if k.startswith("spaces.bytes."))
    assert blocks == pytest.approx([1e-5, 1e-4], rel=0.01)
    assert embedded == pytest.approx(1e-6, rel=0.1)


def test_shares_of_the_learning_rate() -> None:
    names = ["spaces.text.embedding", "towers.main.blocks.0.x", "towers.main.blocks.1.x"]
    names += ["towers.main.final_norm.weight", "spaces.label.weight", "towers.other.blocks.7.x"]
    shares = layer_shares(names, "main", 0.5)
    assert [shares[name] for name in names] == [0.125, 0.25, 0.5, 1, 1, 0.125]
    assert set(layer_shares(names, "main", 1.0).values()) == {1.0}


def test_a_head_alone_learns() -> None:
    torch.manual_seed(0)
    raws = ["a" * 9 if i % 2 else "z" * 9 for i in range(40)]
    task = Task.from_records("t", "bytes", raws, [raw[0] for raw in raws])
    method = FinetuneConfig(steps=60, batch=16, lr=3e-2, only_head=True)
    fitted = method.fit(Encoder(mixed_base(), "bytes"), task, np.arange(40))
    assert task.score(fitted.outputs(task.inputs(np.arange(40))), np.arange(40)) > 0.9
