"""A batch whose rows depend on each other, in pieces and on ranks: the gradient of the whole."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.tensor import DTensor

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import View
from broadbase.modalities.noise import Hide, MaskOrSwap
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.train.config import TrainConfig
from broadbase.train.loop import Trainer
from broadbase.train.machine import MachineConfig
from broadbase.train.metrics_log import MetricsLog
from broadbase.train.optim import AdamWConfig
from broadbase.train.ranks import Ranks
from broadbase.train.schedule import WSDConfig
from support.models import MODALITIES, TOWER
from support.programs import ranks
from support.segments import images, packed

ROWS, LENGTHS = 8, [5, 7, 4, 9, 3, 8, 6, 9]
EXPERTS = {"name": "experts", "hidden_width": 16, "num_experts": 2, "top_k": 1}
TEXT: dict[str, Any] = {**TOWER["layers"][0]["block"], "feedforward": EXPERTS}  # type: ignore[index]
SIDES = {
    "first": {"source": "digits", "tower": "image", "joint": "a"},
    "second": {"source": "prose", "tower": "text", "joint": "b"},
}
PARTS = {
    "pairs": {"objective": {"name": "infonce", **SIDES}},
    "causal": {"objective": {"name": "causal", "tower": "text"}, "sources": ["prose"]},
}
CASES: dict[str, dict[str, Any]] = {
    "infonce": SIDES,
    "sigmoid": SIDES,
    "mixture": {"components": PARTS},  # rows that depend on each other beside rows that do not
}


def trainer(name: str, micro_batches: int, ranks: Ranks) -> Trainer:
    tree = {
        "modalities": MODALITIES,
        "heads": {
            "a": {"name": "joint", "embedding_dim": 6},
            "b": {"name": "joint", "embedding_dim": 6, "scale": 10.0, "bias": -2.0},
        },
        "towers": {"image": TOWER, "text": {**TOWER, "layers": [{"repeat": 2, "block": TEXT}]}},
        "tower_of": {"bytes": "text", "b": "text"},
    }
    model = ModelConfig.from_tree(tree).build()
    initialise(model, 0)
    model.double()
    ranks.shard(model)
    return Trainer(
        config=TrainConfig(micro_batches=micro_batches),
        model=model,
        objective=ObjectiveConfig.from_tree({"name": name, **CASES[name]}).build(),
        corrupt={"bytes": MaskOrSwap(258), "image": Hide()},
        optim=AdamWConfig().build(model),
        schedule=WSDConfig(),
        machine=MachineConfig(device="cpu", precision="fp32", compile="off"),
        ranks=ranks,
        journal=MetricsLog(),
        batches=lambda _: (),
        validation=lambda: (),
    )


def views(t: Trainer, rank: int, world: int) -> list[View]:
    full = {"prose": packed([[n] for n in LENGTHS], 9), "digits": images(ROWS)}
    ours = {
        name: segment.map(
            lambda x: x[rank::world].double() if x.is_floating_point() else x[rank::world]
        )
        for name, segment in full.items()
    }
    return [*t.objective.views(Batch(0, ours, KeyedRandom(0, 0, rank, world)), t.corrupt)]


def gradient(name: str, micro_batches: int) -> torch.Tensor:
    """The totals and the gradient of every parameter, of this rank's rows and all others'."""
    ranks = Ranks(torch.device("cpu"))
    t = trainer(name, micro_batches, ranks)
    totals, shares = t.accumulate(views(t, ranks.rank, ranks.world))
    numbers = [x for name in sorted(totals) for x in (totals[name], shares[name].weight)]
    result = [torch.tensor(numbers, dtype=torch.float64)]
    for p in t.model.parameters():
        if p.grad is not None:
            full = p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad
            result.append(full.flatten())
    return torch.cat(result)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("pieces", [2, 3, 8])
def test_in_pieces(name: str, pieces: int) -> None:
    full, cut = gradient(name, 1), gradient(name, pieces)
    assert full.norm() > 0.1
    assert (full - cut).norm() / full.norm() < 1e-10


def test_pieces_by_themselves_would_not_do() -> None:
    """Each row told from its own piece alone gives another gradient: the test above can fail."""
    full, t = gradient("infonce", 1), trainer("infonce", 2, Ranks(torch.device("cpu")))
    for loss in t._one_pass(views(t, 0, 1), t._global_shares(views(t, 0, 1))):
        assert loss["pairs"] > 0
    naive = torch.cat([p.grad.flatten() for p in t.model.parameters() if p.grad is not None])
    full = full[-len(naive) :]
    assert (full - naive).norm() / full.norm() > 1e-2


RANKS = """
import sys, torch
from train.test_grad_cache import CASES, gradient
found = {name: gradient(name, 2) for name in CASES}
if torch.distributed.get_rank() == 0:
    torch.save(found, sys.argv[1])
torch.distributed.destroy_process_group()
"""


def test_in_pieces_on_two_ranks(tmp_path: Path) -> None:
    for rank in ranks(2, f"import sys; sys.path[:0] = {sys.path}\n{RANKS}", tmp_path / "found.pt"):
        done = rank.done(120)
        assert done.returncode == 0, done.stderr[-3000:]
    for name, cut in torch.load(tmp_path / "found.pt").items():
        full = gradient(name, 1)
        assert (full - cut).norm() / full.norm() < 1e-10, name
