"""Codes: the quantiser against its papers' formulas, and the autoencoder that trains it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from broadbase.nn.vector_quantizer import Codebook, VectorQuantizer, VectorQuantizerConfig
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.train.ranks import Ranks, gather
from support.models import TOWER
from support.paths import TESTS
from support.programs import ranks
from support.recipes import small
from support.segments import images, packed
from support.training import trainer

Z = torch.randn(6, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
ALL = torch.ones(6, 7, dtype=torch.float64)


def alone(tensor: Tensor) -> Tensor:
    return tensor


def codebook(codes: int, least: float = 0.0, decay: float = 0.9) -> Codebook:
    made = Codebook(codes, 5, decay, least).double()
    made.vectors.copy_(torch.randn(codes, 5, generator=torch.Generator().manual_seed(1)))
    made.size.fill_(3.0)
    return made


def quantised(**fields: Any) -> VectorQuantizer:
    tree = {"source": "a", "target": "b", "code_dim": 5, **fields}
    made = VectorQuantizerConfig.from_tree(tree).build(5, 5).double()
    for linear in (made.narrow, made.widen):
        linear.weight.data.copy_(torch.eye(5))
        linear.bias.data.zero_()
    return made


def test_the_averages_are_the_papers() -> None:
    """van den Oord et al. 2017, appendix A.1, eq. 6-8, in float64; padding does not count."""
    made, decay = codebook(4), 0.9
    size, total = made.size.clone(), made.vectors * made.size[:, None]
    keep = ALL.clone()
    keep[2, 3:] = 0
    for step in range(3):
        z = Z + step
        ids = ((z[..., None, :] - made.vectors) ** 2).sum(-1).argmin(-1)
        assert torch.equal(made.nearest(z), ids)
        for i in range(4):
            chosen = z[(ids == i) & (keep > 0)]
            size[i] = size[i] * decay + len(chosen) * (1 - decay)
            total[i] = total[i] * decay + chosen.sum(0) * (1 - decay)
        made.accumulate(z, ids, keep)
        made.update_statistics(alone)
        torch.testing.assert_close(made.size, size, rtol=1e-12, atol=0)
        torch.testing.assert_close(made.vectors, total / size[:, None], rtol=1e-12, atol=1e-12)


def test_the_gradient_passes_straight_through_and_commits() -> None:
    """d/dz of f(q) + b |z - q|^2 is f'(q) + 2 b (z - q), the mean over 5 dimensions."""
    made = quantised(codes=4)
    made.codebooks[0].vectors.copy_(codebook(4).vectors)
    z = Z.clone().requires_grad_()
    out, losses = made(z)
    q = made.codebooks[0].vectors[made.encode(z)[..., 0]]
    torch.testing.assert_close(out, q)
    (out.square().sum() + 0.25 * losses["commitment"].sum()).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(z.grad, 2 * q + 0.25 * 2 * (z.detach() - q) / 5)


def test_a_codebook_finds_planted_clusters() -> None:
    """From nothing: one code, then more by splitting, until each of 12 clusters has its own."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 5)) * 4
    made = Codebook(16, 5, 0.9, 0.05).double()
    for _ in range(150):
        member = rng.integers(0, 12, (8, 32))
        z = torch.from_numpy(centres[member] + 0.1 * rng.normal(size=(8, 32, 5)))
        ids = made.nearest(z)
        made.accumulate(z, ids, torch.ones(8, 32).double())
        made.update_statistics(alone)
    gaps = np.abs(centres[:, None] - made.vectors.numpy()).max(-1).min(1)
    assert gaps.max() < 0.2
    pairs = {(int(m), int(i)) for m, i in zip(member.ravel(), ids.flatten(), strict=True)}
    assert len({i for _, i in pairs}) == len(pairs)  # no code has two clusters


def test_dead_codes_come_back_next_to_the_largest_error() -> None:
    made = codebook(3, least=0.05)
    made.vectors.copy_(torch.tensor([[0.0] * 5, [9.0] * 5, [99.0] * 5]))
    made.size[2] = 1e-9
    z = torch.zeros(1, 4, 5, dtype=torch.float64)
    z[0, :2, 3] = torch.tensor([2.0, -2.0])  # two about code 0, along one axis
    z[0, 2:] = 9.0
    made.accumulate(z, made.nearest(z), torch.ones(1, 4).double())
    made.update_statistics(alone)
    torch.testing.assert_close(made.vectors[0], torch.tensor([0, 0, 0, -2.0, 0]).double())
    torch.testing.assert_close(made.vectors[2], torch.tensor([0, 0, 0, 2.0, 0]).double())
    assert made.size[0] == made.size[2]


def test_the_error_falls_with_every_codebook() -> None:
    made = quantised(codes=8, codebooks=4, decay=0.5)
    for _ in range(40):
        made(Z.clone().requires_grad_())
        made.update_statistics(alone)
    ids = made.encode(Z)
    assert ids.shape == (6, 7, 4)
    errors = [(made.decode(ids[..., :k]) - Z).square().mean().item() for k in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.15 * errors[0]
    made.eval()
    torch.testing.assert_close(made.decode(ids), made(Z)[0])


def autoencoder(dtype: torch.dtype = torch.float64, **fields: Any) -> Model:
    image = {"name": "image", "height": 4, "width": 4, "channels": 1, "patch": 2}
    connector = {"name": "vector_quantizer", "source": "encoder", "target": "decoder", "codes": 8}
    tree = {
        "modalities": {"image": image},
        "heads": {"pixels": {"name": "regression", "channels": 4}},
        "towers": {"encoder": TOWER, "decoder": TOWER},
        "tower_of": {"pixels": "decoder"},
        "connectors": [{**connector, "code_dim": 3, **fields}],
    }
    model = ModelConfig.from_tree(tree).build()
    initialise(model, 0)
    return model.to(dtype)


def test_codes_and_gradient_are_the_same_however_a_batch_is_cut() -> None:
    """Three steps in 1, 2 and 4 pieces, rows of different length: the same codebook and weights."""
    segment = images(4, 0).map(lambda t: t.double() if t.is_floating_point() else t)
    assert segment.loss_weight is not None
    segment.loss_weight[1, 3:] = 0
    states = []
    for pieces in (1, 2, 4):
        model = autoencoder(codebooks=2)
        t = trainer(model, "autoencoder", pieces)
        for step in range(3):
            t._advance(Batch(step, {"s": segment}, KeyedRandom(0, step)))
        states.append({**dict(model.named_parameters()), **dict(model.named_buffers())})
    assert len(states[0]["connectors.encoder>decoder.codebooks.1.size"].nonzero()) > 1
    for other in states[1:]:
        for name, value in states[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-9, atol=1e-9)


def steps(ranks: Ranks) -> dict[str, Tensor]:
    """A model of two codebooks after four steps, each rank with its rows."""
    model = autoencoder(codebooks=2)
    ranks.shard(model)
    t = trainer(model, "autoencoder")
    t.ranks = ranks
    for step in range(4):
        segment = images(8, step).map(lambda t: t.double() if t.is_floating_point() else t)
        segment = segment.map(lambda t: t[ranks.rank :: ranks.world])
        t._advance(Batch(step, {"s": segment}, KeyedRandom(0, step)))
    return {name: value.contiguous().clone() for name, value in gather(model).items()}


STEPS = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from safetensors.torch import save_file
from broadbase.train.ranks import Ranks
from nn.test_vector_quantizer import steps
ranks = Ranks(torch.device("cpu"))
tensors = steps(ranks)
if ranks.main:
    save_file(tensors, sys.argv[2])
ranks.close()
"""


def test_codes_are_the_same_over_two_ranks(tmp_path: Path) -> None:
    """In double precision: codebooks and weights of one process, within 1e-9."""
    for rank in ranks(2, STEPS, TESTS, tmp_path / "two.safetensors"):
        done = rank.done(120)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = steps(Ranks(torch.device("cpu"))), load_file(tmp_path / "two.safetensors")
    assert len(one["connectors.encoder>decoder.codebooks.0.size"].nonzero()) > 4
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-9, atol=1e-9)


def test_an_autoencoder_predicts_the_pictures_and_not_the_start() -> None:
    segment = images(3, 0)
    objective = ObjectiveConfig.from_tree({"name": "autoencoder"}).build()
    (view,) = objective.views(Batch(0, {"s": segment}, KeyedRandom(0, 0)), {})
    encoder, decoder = view.streams
    (read,) = decoder.readouts
    assert torch.equal(read.target, segment.values[:, 1:])
    assert encoder.segments[0].document is None
    model = autoencoder(torch.float32)
    totals, shares = trainer(model, "autoencoder").accumulate((view,))
    assert shares["encoder>decoder/commitment"].weight == shares["s"].weight == 12
    output = model(view)
    z = model.connectors["encoder>decoder"].narrow(output.streams["encoder"].x)  # type: ignore[operator,union-attr]
    assert totals["encoder>decoder/commitment"] == pytest.approx(z.square().mean(-1).sum().item())
    with pytest.raises(ConfigError, match="holds ids; use masked"):
        objective.views(Batch(0, {"s": packed([[5]], 5)}, KeyedRandom(0, 0)), {})


def test_evaluation_changes_no_code() -> None:
    model = autoencoder(torch.float32)
    t = trainer(model, "autoencoder")
    batch = Batch(0, {"s": images(3, 0)}, KeyedRandom(0, 0))
    t._advance(batch)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    t.validation = lambda: [batch]
    t.evaluate()
    model.update_statistics(alone)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_resumed_tokenizer_is_the_uninterrupted_one(corpus: Path, tmp_path: Path) -> None:
    tree = small("vq", corpus).tree()
    tree["train"] |= {"save_every": 10}
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "run")
    run.train()
    uninterrupted = (run.folder / "model" / "model.safetensors").read_bytes()
    for folder in ("checkpoints/step-000020", "model"):
        shutil.rmtree(run.folder / folder)
    Run.open(run.folder).train()
    assert (run.folder / "model" / "model.safetensors").read_bytes() == uninterrupted
