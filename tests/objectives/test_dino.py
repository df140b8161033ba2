"""Self-distillation: the paper's loss and centre, crops that are what they say, and collapse."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from broadbase.adapt.compare import compare
from broadbase.adapt.features import NEAREST, classical
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.task import Task
from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.errors import ConfigError, DivergedError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Segment, View, positions
from broadbase.inference.base import Base
from broadbase.inference.usages import plain_usage
from broadbase.modalities.crops import Crops, CropsConfig, boxes
from broadbase.modalities.image import ImageConfig
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from broadbase.nn.spaces.prototypes import PrototypesConfig
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.train.optim import AdamWConfig
from broadbase.train.teacher import AverageConfig, Twin
from support.models import TOWER
from support.recipes import small
from support.runs import weights
from support.training import trainer

K = 12
IMAGE = {"name": "image", "height": 12, "width": 8, "channels": 1, "patch": 2}
HEAD = {"name": "prototypes", "prototypes": K, "hidden_width": 10, "bottleneck": 6, "grace": 1.0}
HEAD |= {
    "temperature": 0.125,
    "teacher_temperature_start": 0.0625,
    "teacher_temperature": 0.125,
}  # exact in any precision
STILL = CropsConfig(flip=0, light=0)


def model(seed: int = 0, **head: Any) -> Model:
    tree = {
        "modalities": {"image": IMAGE},
        "heads": {"head": {**HEAD, **head}},
        "towers": {"main": TOWER},
    }
    built = ModelConfig.from_tree(tree).build()
    initialise(built, seed)
    return built.double()


def batch(rows: int = 5, step: int = 0) -> Batch:
    config = ImageConfig.from_tree(IMAGE)
    codec, rng = config.fit([]), np.random.default_rng(0)
    pictures = [codec.encode(rng.random((12, 8))).values for _ in range(rows)]
    values = np.stack([np.concatenate([codec.start[None], one]) for one in pictures])
    place = torch.cat([torch.zeros(1, 3, dtype=torch.int64), 1 + positions((6, 4))])
    segment = Segment("image", torch.from_numpy(values).double(), place.expand(rows, -1, -1))
    return Batch(step, {"pictures": segment}, KeyedRandom(7, step))


def taught(student: Model, pieces: int = 1, **fields: Any) -> Any:
    t = trainer(student, "causal", pieces)
    tree = {"name": "dino", "space": "head", "num_small": 2, **fields}
    t.objective = ObjectiveConfig.from_tree(tree).build()
    t.corrupt = {"image": ImageConfig.from_tree(IMAGE).corruption()}
    t.optim = AdamWConfig(lr=1e-2).build(student)
    teacher = AverageConfig(momentum=0.9).build(student, t.ranks, lambda _: student)
    assert isinstance(teacher, Twin)
    t.teacher = teacher
    return t


def cosines(net: Model, view: View) -> NDArray[np.float64]:
    """The head by hand: three layers, a unit vector, unit prototypes; [B,K]."""
    with torch.no_grad():
        z = net(view).streams["main"].x.mean(dim=1).numpy()
    head = {k: v.numpy() for k, v in net.spaces["head"].state_dict().items()}
    for i in (0, 2, 4):
        z = z @ head[f"head.{i}.weight"].T + head[f"head.{i}.bias"]
        if i < 4:
            z = z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    return z @ (head["last.weight"] / np.linalg.norm(head["last.weight"], axis=1, keepdims=True)).T


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_three_steps_are_the_papers_algorithm() -> None:
    """Caron et al. 2021, algorithm 1 with multi-crop, in float64: loss, centre, temperature."""
    student = model()
    t = taught(student)
    t.config = t.config.replace(steps=10)
    centre = np.zeros(K)
    for step in range(3):
        views = t.objective.views(batch(step=step), t.corrupt)
        large, all_crops = views[:2], views[2:]
        assert [v.teacher for v in views] == [True] * 2 + [False] * 4
        temperature = 0.0625 + (0.125 - 0.0625) * min(1, step / 10 / 0.3)
        teacher = [cosines(t.teacher.model, view) for view in large]
        output = [softmax((x - centre) / temperature) for x in teacher]
        said = [np.log(softmax(cosines(student, view) / 0.125)) for view in all_crops]
        each = [
            -(p * log_q).sum(axis=1).mean()
            for i, p in enumerate(output)
            for j, log_q in enumerate(said)
            if i != j
        ]
        assert len(each) == 2 * (2 + 2) - 2
        losses: list[float] = []
        t.journal.stepped = lambda _, loss, *__: losses.append(loss["pictures/crops"])  # noqa: B023
        t._advance(batch(step=step))
        assert losses[0] == pytest.approx(np.mean(each), rel=1e-10)
        centre = 0.9 * centre + 0.1 * np.concatenate(teacher).mean(axis=0)
        kept = t.teacher.model.spaces["head"]
        np.testing.assert_allclose(kept.centre.numpy(), centre, atol=1e-12)
        assert not student.spaces["head"].centre.any()  # type: ignore[union-attr,operator]


def test_what_is_watched_is_the_entropy_of_the_mean_and_the_information() -> None:
    t = taught(model())
    views = t.objective.views(batch(), t.corrupt)
    output = np.concatenate([softmax(cosines(t.teacher.model, v) / 0.0625) for v in views[:2]])
    t.accumulate(views)
    watched = t.teacher.update(t.model, 0, 100, t.ranks.sum)
    mean = output.mean(axis=0)
    entropy = -(mean * np.log(mean)).sum()
    assert watched["head/entropy"] == pytest.approx(entropy, rel=1e-9)
    inside = -(output * np.log(output)).sum(axis=1).mean()
    assert watched["head/information"] == pytest.approx(entropy - inside, rel=1e-9)


@pytest.mark.parametrize("pieces", [2, 3])
def test_gradient_and_centre_are_the_same_however_a_batch_is_cut(pieces: int) -> None:
    """The centre of a step is that before it, so no piece depends on another."""
    result = []
    for n in (1, pieces):
        t = taught(model(), n)
        for step in range(2):
            t.accumulate(t.objective.views(batch(step=step), t.corrupt))
            t.teacher.update(t.model, step, 100, t.ranks.sum)
        grads = [p.grad.flatten() for p in t.model.parameters() if p.grad is not None]
        result.append(torch.cat([*grads, t.teacher.model.spaces["head"].centre]))
    assert (result[0] - result[1]).norm() / result[0].norm() < 1e-10


def test_an_evaluation_leaves_the_centre_alone() -> None:
    t = taught(model())
    t.validation = lambda: [batch()]
    t.evaluate()
    assert t.teacher.update(t.model, 0, 100, t.ranks.sum) == {}
    assert not t.teacher.model.spaces["head"].centre.any()


@pytest.mark.parametrize("kind", ["one prototype", "all alike"])
def test_collapse_halts_the_run(kind: str) -> None:
    student = model(grace=0.2)
    with torch.no_grad():
        head = student.spaces["head"]
        for name, parameter in head.named_parameters():
            if name == "head.4.weight":
                parameter.zero_()  # every picture at one point
            if name == "last.weight" and kind == "all alike":
                parameter.copy_(parameter[:1].expand_as(parameter))
            if name == "head.4.bias":
                parameter.copy_(head.last.weight[0])  # type: ignore[union-attr,index]
    t = taught(student)
    t.config = t.config.replace(steps=5)
    t._advance(batch())  # a fifth of the run is grace
    with pytest.raises(DivergedError, match=r"collapsed: the teacher's answer has .* nats"):
        t._advance(batch())


def test_the_last_layer_waits() -> None:
    t = taught(model())
    hold = {"spaces.head.last": 0.2}
    t.optim = AdamWConfig(lr=1e-2, freeze_until=hold).build(t.model)
    t.config = t.config.replace(steps=10)
    last, first = t.model.spaces["head"].last.weight, t.model.spaces["head"].head[0].weight
    moved = []
    for step in range(4):
        before = last.clone(), first.clone()
        t._advance(batch(step=step))
        moved.append((not torch.equal(before[0], last), not torch.equal(before[1], first)))
    assert moved == [(False, True), (False, True), (True, True), (True, True)]
    with pytest.raises(
        ConfigError, match=r"optim.freeze_until: no parameter begins with 'spaces.hed'"
    ):
        AdamWConfig(freeze_until={"spaces.hed": 0.2}).build(t.model)


def test_what_has_no_crops_is_refused() -> None:
    t = taught(model())
    ids = Segment("bytes", torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, 3))
    head = PrototypesConfig(prototypes=4).build(8)
    with pytest.raises(ConfigError, match="cannot be scored against targets"):
        head.score(torch.zeros(1, 1, 8), torch.zeros(1, 1))
    other = ModelConfig.from_tree(
        {"modalities": {"bytes": {"name": "bytes"}}, "towers": {"main": TOWER}}
    )
    corrupt = {"bytes": other.modalities["bytes"].corruption()}
    with pytest.raises(ConfigError, match="only pictures have them"):
        t.objective.views(Batch(0, {"s": ids}, KeyedRandom(0, 0)), corrupt)
    long = batch().segments["pictures"].map(lambda x: torch.cat([x, x[:, :1]], dim=1))
    with pytest.raises(ConfigError, match=r"set data\.sources\.NAME\.sequence_length to 25"):
        t.objective.views(Batch(0, {"s": long}, KeyedRandom(0, 0)), t.corrupt)


shapes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.sampled_from([1, 3]))


def flat(pixels: NDArray[Any], config: ImageConfig) -> torch.Tensor:
    """Pictures [B,H,W,C] as the values of a row: [B,1+N,K]."""
    codec = config.fit([])
    rows = [np.concatenate([codec.start[None], codec.encode(one).values]) for one in pixels]
    return torch.from_numpy(np.stack(rows))


@settings(max_examples=30, deadline=None)
@given(shapes, st.floats(0.2, 1.0), st.integers(0, 99))
def test_crops_have_their_shape_and_repeat_for_any_ranks(
    shape: tuple[int, int, int, int], scale: float, seed: int
) -> None:
    rows, columns, patch, channels = shape
    config = ImageConfig(height=rows * patch, width=columns * patch, channels=channels, patch=patch)
    size = (4, config.height, config.width, channels)
    values = flat(np.random.default_rng(seed).random(size), config)
    crops = config.corruption()
    made, place = crops.crop(values, scale, (0.1, 0.6), KeyedRandom(seed, 3), "s")
    grid = max(1, round(scale * rows)), max(1, round(scale * columns))
    assert made.shape == (4, 1 + grid[0] * grid[1], patch * patch * channels)
    assert torch.equal(place[2, 1:], 1 + positions(grid))
    assert not place[:, 0].any()
    assert torch.equal(made[:, 0], values[:, 0])
    assert (made[:, 1:] >= 0).all()
    assert (made[:, 1:] <= 1).all()
    again, _ = crops.crop(values[1::2], scale, (0.1, 0.6), KeyedRandom(seed, 3, 1, 2), "s")
    assert torch.equal(again, made[1::2])
    other, _ = crops.crop(values, scale, (0.1, 0.6), KeyedRandom(seed, 4), "s")
    assert rows * columns * patch == 1 or not torch.equal(other, made)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.floats(0.3, 1.0), st.booleans())
def test_a_crop_of_a_ramp_is_a_ramp(seed: int, scale: float, mirrored: bool) -> None:
    """0.2 + a y + b x stays linear, at the box that was drawn; away from the picture's edges."""
    n, patch = 24, 2
    config = ImageConfig(height=n, width=n, channels=1, patch=patch, levels=256)
    centre = (np.arange(n) + 0.5) / n
    ramp = 0.2 + 0.5 * centre[:, None] + 0.3 * centre[None, :]
    still = STILL.replace(flip=float(mirrored))
    crops = Crops(config=still, rows=n // patch, columns=n // patch, patch=patch)
    values = flat(ramp[None, :, :, None], config)
    codec, draws = config.fit([]), KeyedRandom(seed, 0)
    made, _ = crops.crop(values, scale, (0.2, 0.5), draws, "s")
    side = round(scale * (n // patch)) * patch
    small = ImageConfig(height=side, width=side, channels=1, patch=patch, levels=256).fit([])
    result = small.decode(made[0, 1:].numpy(), (side // patch, side // patch))[:, :, 0]
    chance = draws.uniform("s", 1, 9).unbind(dim=1)
    (box,) = boxes(chance[:4], (0.2, 0.5), torch.tensor([mirrored])).numpy()
    assert 0.2 <= abs(box[0, 0]) * box[1, 1] <= 0.5
    assert (box[0, 0] < 0) == mirrored
    own = 2 * (np.arange(side) + 0.5) / side - 1
    y, x = ((1 + m * own + shift) / 2 for m, shift in (box[1, 1:], box[0, [0, 2]]))
    expected = 0.2 + 0.5 * y[:, None] + 0.3 * x[None, :]
    inside = np.ix_((y > 0.5 / n) & (y < 1 - 0.5 / n), (x > 0.5 / n) & (x < 1 - 0.5 / n))
    np.testing.assert_allclose(result[inside], expected[inside], atol=0.5 / 255 + 1e-5)
    assert codec.unit == "pixel"


@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_light_is_brightness_contrast_and_saturation(grey: float) -> None:
    """The same crop without light, times brightness, about its mean, about its luma."""
    config = ImageConfig(height=6, width=6, channels=3, patch=2, levels=256)
    values = flat(np.random.default_rng(0).uniform(0.3, 0.6, (3, 6, 6, 3)), config)
    most = {"brightness": 0.3, "contrast": 0.2, "saturation": 0.4}
    result = []
    for light, lost in ((0.0, 0.0), (1.0, grey)):
        settings = CropsConfig(light=light, grey=lost, **most)
        crops = Crops(config=settings, rows=3, columns=3, patch=2)
        made, _ = crops.crop(values, 1.0, (0.5, 0.9), KeyedRandom(0, 0), "s")
        codec = config.fit([])
        result.append(np.stack([codec.decode(one[1:].numpy(), (3, 3)) for one in made]))
    chance = KeyedRandom(0, 0).uniform("s", 3, 9).numpy()[:, 5:8]
    size = [most["brightness"], most["contrast"], most["saturation"]]
    brighter, sharper, purer = (1 + size * (2 * chance - 1)).T[:, :, None, None, None]
    x = result[0] * brighter
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    x = mean + (x - mean) * sharper
    luma = (x * [0.299, 0.587, 0.114]).sum(axis=-1, keepdims=True)
    expected = luma + (x - luma) * (0 if grey else purer)
    np.testing.assert_allclose(result[1], expected.clip(0, 1), atol=1e-5)


def test_exact_resume_of_a_run(corpus: Path, tmp_path: Path) -> None:
    """Centre and temperature of the teacher are in the checkpoint."""
    tree = small("dino", corpus).tree()
    tree["train"] |= {"save_every": 7, "keep_last": 9}
    tree["data"] |= {"validation_rows": 4, "final_rows": 4}
    complete = Run.create(RunConfig.from_tree(tree), tmp_path / "whole")
    complete.train()
    cut = tmp_path / "cut"
    shutil.copytree(complete.folder, cut)
    for gone in (cut / "checkpoints" / "step-000020", cut / "checkpoints" / "step-000014"):
        shutil.rmtree(gone)
    shutil.rmtree(cut / "model")
    Run.open(cut).train()
    assert weights(cut) == weights(complete.folder)


def test_neighbours_vote_by_their_cosine() -> None:
    """The class of the largest sum of exp(cosine / 0.07) over the 20 nearest, written out."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 120)
    pictures = rng.random((120, 4, 4)) + 0.6 * np.eye(4)[labels][:, None, :]
    task = Task.from_records("t", "image", list(pictures / 1.6), [str(i) for i in labels])
    train, test = task.split(60, 60, 0)
    x = pictures.reshape(120, -1)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    right = 0
    for i in test:
        cosine = x[train] @ x[i]
        near = np.argsort(-cosine)[:20]
        votes = np.zeros(3)
        np.add.at(votes, labels[train[near]], np.exp(cosine[near] / 0.07))
        right += votes.argmax() == labels[i]
    score = classical(task, NEAREST)["pixels"](train, test, 0)
    assert 0.4 < score == pytest.approx(right / len(test))


def test_adapt_by_neighbours_is_held_against_pixels() -> None:
    image = {**IMAGE, "height": 4, "width": 4}
    config = ModelConfig.from_tree({"modalities": {"image": image}, "towers": {"main": TOWER}})
    built = config.build()
    initialise(built, 0)
    base = Base(
        config, built.eval(), {"image": config.modalities["image"].fit([])}, plain_usage("full")
    )
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    raws = [rng.random((4, 4)) / 2 + label / 2 for label in labels]
    task = Task.from_records("t", "image", raws, [str(i) for i in labels])
    (row,) = compare(base, task, KnnConfig(), [40], 40, 2, features=True)
    assert min(row.scores) > 0.9
    assert {c.baseline for c in row.comparisons[2:]} == {"pixels", "pixels, standardised"}
