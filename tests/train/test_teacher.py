"""Teachers: what moves, what does not, and what a student learns from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import combine
from broadbase.model.model import Model
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.train.optim import AdamWConfig
from broadbase.train.ranks import Ranks
from broadbase.train.teacher import AverageConfig, Frozen, Teacher
from broadbase.weights.folder import load
from support.models import tiny
from support.recipes import small
from support.runs import weights
from support.segments import images, packed
from support.training import CORRUPT, trainer

DRAWS, ALONE = KeyedRandom(seed=1, step=3), Ranks(torch.device("cpu"))


def batch(dtype: torch.dtype = torch.float64) -> Batch:
    text = packed([[5, 7], [12], [3, 3, 3, 3], [4]], 12)
    both = {"prose": text, "digits": images(4)}
    cast = {
        name: segment.map(lambda t: t.to(dtype) if t.is_floating_point() else t)
        for name, segment in both.items()
    }
    return Batch(3, cast, DRAWS)


def distilled(teacher: Model, student: Model, micro_batches: int = 1, **fields: Any) -> Any:
    t = trainer(student, "causal", micro_batches)
    t.objective = ObjectiveConfig.from_tree({"name": "distil", **fields}).build()
    t.teacher = Frozen(teacher, t.ranks)
    return t


def gradient(model: Model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_the_average_is_the_formula() -> None:
    """teacher = m * teacher + (1 - m) * student, m from 0.9 to 1 by half a cosine, in float64."""
    student, steps = tiny(dtype=torch.float64), 7
    teacher = AverageConfig(momentum=0.9).build(student, ALONE, lambda _: student)
    expected = {n: p.detach().numpy().copy() for n, p in student.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator).double())
        teacher.update(student, step, steps, ALONE.sum)
        m = 1 - (1 - 0.9) * (np.cos(np.pi * step / steps) + 1) / 2
        for name, parameter in student.named_parameters():
            expected[name] = m * expected[name] + (1 - m) * parameter.detach().numpy()
    for name, parameter in teacher.model.named_parameters():
        np.testing.assert_allclose(parameter.numpy(), expected[name], atol=1e-12)
        assert not parameter.requires_grad


def test_a_frozen_teacher_neither_moves_nor_has_a_gradient() -> None:
    teacher, student = tiny(1), tiny(2)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    t = distilled(teacher, student)
    moved = {k: v.clone() for k, v in student.state_dict().items()}
    for _ in range(3):
        t._advance(batch(torch.float32))
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    assert any(not torch.equal(v, moved[k]) for k, v in student.state_dict().items())


@pytest.mark.parametrize(("temperature", "hard"), [(1.0, 0.0), (2.0, 0.5), (4.0, 0.1)])
def test_distillation_is_hintons_loss(temperature: float, hard: float) -> None:
    """hard * cross-entropy + (1 - hard) * T^2 * KL, and its gradient, in float64."""
    teacher, student = tiny(1, torch.float64), tiny(2, torch.float64)
    t = distilled(teacher, student, temperature=temperature, hard=hard)
    views = t.objective.views(batch(), CORRUPT)
    totals, shares = t.accumulate(views)
    matches = sum(totals[k] / s.weight * s.scale for k, s in shares.items())
    grad = gradient(student)
    student.zero_grad()
    expected = torch.zeros((), dtype=torch.float64)
    for view in (view for view in views if not view.teacher):
        hidden = student(view).streams["main"].x
        with torch.no_grad():
            seen = teacher(view).streams["main"].x
        read = view.readouts[0]
        logits = student.spaces[read.head].predict(hidden)
        aim = teacher.spaces[read.head].predict(seen)
        p, q = (torch.softmax(z / temperature, -1) for z in (aim, logits))
        kl = (p * (p / q).log()).sum(-1)
        target = read.target
        if kl.ndim == 3:  # a patch: its channels together
            kl, target = kl.sum(-1), (target * 15).round().long()
        nll = -logits.log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
        nll = nll.sum(-1) if nll.ndim == 3 else nll
        w = read.loss_weight
        each = hard * nll + (1 - hard) * temperature**2 * kl
        expected = expected + (each * w).sum() / w.sum() / 2
    expected.backward()
    assert matches == pytest.approx(expected.item(), rel=1e-10)
    assert (grad - gradient(student)).norm() / grad.norm() < 1e-9


def test_soft_targets_at_temperature_1_have_gemmas_gradient() -> None:
    """KL differs from -sum p_teacher log p_student by a constant."""
    teacher, student = tiny(1, torch.float64), tiny(2, torch.float64)
    t = distilled(teacher, student, temperature=1.0, hard=0.0)
    prose = Batch(3, {"prose": batch().segments["prose"]}, DRAWS)
    views = t.objective.views(prose, CORRUPT)
    t.accumulate(views)
    grad = gradient(student)
    student.zero_grad()
    (read, _) = views[0].readouts
    predicted = student.spaces["bytes"].predict(student(views[0]).streams["main"].x)
    p = teacher.spaces["bytes"].predict(teacher(views[0]).streams["main"].x).softmax(-1).detach()
    cross = -(p * predicted.log_softmax(-1)).sum(-1)
    ((cross * read.loss_weight).sum() / read.loss_weight.sum()).backward()
    assert (grad - gradient(student)).norm() / grad.norm() < 1e-9


@pytest.mark.parametrize("pieces", [2, 4])
def test_the_gradient_is_the_same_however_a_batch_is_cut(pieces: int) -> None:
    matches = []
    for n in (1, pieces):
        student = tiny(2, torch.float64)
        t = distilled(tiny(1, torch.float64), student, n)
        t.accumulate(t.objective.views(batch(), CORRUPT))
        matches.append(gradient(student))
    assert (matches[0] - matches[1]).norm() / matches[0].norm() < 1e-10


def test_a_student_becomes_its_teacher_on_one_batch() -> None:
    """Another model of the same size, told nothing but the teacher's answers: KL goes to 0."""
    teacher, student = tiny(1), tiny(2)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(3)  # answers that are far from uniform
    t = distilled(teacher, student, temperature=1.0, hard=0.0)
    t.optim = AdamWConfig(lr=1e-2, weight_decay=0.0).build(student)
    prose = Batch(3, {"prose": batch(torch.float32).segments["prose"]}, DRAWS)
    views = t.objective.views(prose, CORRUPT)
    kl = []
    for _ in range(300):
        totals, shares = t.accumulate(views)
        t.optim.step(1.0)
        kl.append(totals["prose/soft"] / shares["prose/soft"].weight)
    assert kl[0] > 0.1
    assert kl[-1] < 0.01 * kl[0]
    own, aim = (m(views[0]).predictions["prose/soft"].softmax(-1) for m in (student, teacher))
    scored = views[0].readouts[0].loss_weight > 0
    assert (own - aim)[scored].abs().max() < 0.05


def test_masked_students_see_what_their_teacher_sees() -> None:
    t = distilled(tiny(1), tiny(2))
    t.objective = ObjectiveConfig.from_tree({"name": "distil_masked"}).build()
    student, teacher = t.objective.views(batch(torch.float32), CORRUPT)[:2]
    (ours,), (reference,) = student.streams[0].segments, teacher.streams[0].segments
    assert teacher.teacher
    assert not student.teacher
    assert torch.equal(ours.masked, reference.masked)
    assert torch.equal(ours.values, reference.values)
    assert [r.term for r in student.readouts] == ["prose", "prose/soft"]
    assert [r.term for r in teacher.readouts] == ["prose/soft"]
    totals, shares = t.accumulate((student, teacher))
    combine({k: torch.tensor(v) for k, v in totals.items()}, shares)
    assert gradient(t.model).norm() > 0


def test_an_objective_without_its_teacher_is_refused() -> None:
    t = distilled(tiny(1), tiny(2))
    t.teacher = Teacher()
    with pytest.raises(ConfigError, match=r"learns from a teacher.*set teacher\.name=ema"):
        t.accumulate(t.objective.views(batch(torch.float32), CORRUPT))


def run_of(corpus: Path, **fields: Any) -> RunConfig:
    return RunConfig.from_tree({**small("bytes", corpus).tree(), **fields})


def test_a_run_keeps_the_average_and_tells_its_loss(corpus: Path, tmp_path: Path) -> None:
    run = Run.create(run_of(corpus, teacher={"name": "ema", "momentum": 0.8}), tmp_path / "run")
    result = run.train()
    (saved,) = sorted((run.folder / "checkpoints").iterdir())
    student, teacher = (load_file(saved / f"{n}.safetensors") for n in ("model", "teacher"))
    kept = load(run.folder / "model").model
    assert all(torch.equal(v, teacher[f"teacher/{k}"]) for k, v in kept.state_dict().items())
    assert any(not torch.equal(v, student[k]) for k, v in kept.state_dict().items())
    t = trainer(kept, "causal")
    t.validation = lambda: run.held_out(2048)
    assert t.evaluate()["bytes"] == pytest.approx(result["bytes"]["nats_per_token"], rel=1e-6)


def test_a_run_with_a_frozen_teacher(corpus: Path, tmp_path: Path) -> None:
    """Its folder is named, its codec is looked at, and a resume finds it unchanged."""
    first = Run.create(small("text", corpus), tmp_path / "teacher")
    first.train()
    tree = small("text", corpus).tree()
    tree |= {"objective": {"name": "distil"}, "train": {**tree["train"], "save_every": 10}}
    tree["teacher"] = {"name": "frozen", "path": str(tmp_path / "teacher")}
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "student")
    result = run.train()
    assert set(result) == {"text", "text/soft"}
    assert result["text"]["unit"] == "byte"
    assert not (run.folder / "checkpoints" / "step-000020" / "teacher.safetensors").exists()
    path = tmp_path / "teacher" / "model" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"teacher: .* became "):
        Run.open(run.folder).train()
    tree["model"]["modalities"]["text"]["vocab_size"] = 290
    other = Run.create(RunConfig.from_tree(tree), tmp_path / "other")
    with pytest.raises(ConfigError, match=r"codec of 'text' is not this run's.*one --store"):
        other.train()
    tree["teacher"]["path"] = str(tmp_path / "none")
    lost = Run.create(RunConfig.from_tree(tree), tmp_path / "lost")
    with pytest.raises(Exception, match="is this a model folder"):
        lost.train()


def test_exact_resume_with_a_twin(corpus: Path, tmp_path: Path) -> None:
    """An average that goes on from a checkpoint is the uninterrupted one, bit for bit."""
    tree = run_of(corpus, objective={"name": "distil"}, teacher={"name": "ema"}).tree()
    tree["train"] |= {"save_every": 7, "keep_last": 9}
    full = Run.create(RunConfig.from_tree(tree), tmp_path / "whole")
    full.train()
    cut = tmp_path / "cut"
    shutil.copytree(full.folder, cut)
    for gone in (cut / "checkpoints" / "step-000020", cut / "checkpoints" / "step-000014"):
        shutil.rmtree(gone)
    shutil.rmtree(cut / "model")
    Run.open(cut).train()
    assert weights(cut) == weights(full.folder)
    rows = [(f / "metrics.jsonl").read_text().splitlines() for f in (full.folder, cut)]
    losses = [[json.loads(x)["loss"] for x in each if '"loss"' in x] for each in rows]
    assert losses[0] == losses[1]
