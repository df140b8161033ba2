"""Several texts of a class: pictures by their vectors in a joint space, texts by their means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from broadbase.adapt.adapted import load_adapted
from broadbase.adapt.class_names import text_side
from broadbase.adapt.compare import compare
from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.methods.names import NamesConfig
from broadbase.adapt.task import Task
from broadbase.commands.work.adapt import method_of
from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.inference.usages import plain_usage
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from support.adapting import saved
from support.bases import mixed_base
from support.models import MODALITIES, TOWER

TEMPLATES = ("{}", "a drawing: {}", "this is {}!")
NONE = np.zeros(0, dtype=np.int64)


def two_towers(bias: float | None = -3.0) -> Base:
    joint = {"name": "joint", "embedding_dim": 8}
    tree: dict[str, Any] = {
        "modalities": MODALITIES,
        "heads": {"image_joint": joint, "text_joint": {**joint, "scale": 7.0, "bias": bias}},
        "towers": {"image": TOWER, "text": TOWER},
        "tower_of": {"image": "image", "image_joint": "image", "bytes": "text",
                     "text_joint": "text"},
    }  # fmt: skip
    config = ModelConfig.from_tree(tree)
    model = config.build()
    initialise(model, 0)
    codecs = {name: each.fit([]) for name, each in config.modalities.items()}
    return Base(config, model.eval(), codecs, plain_usage("full"))


def pictures(count: int = 24) -> Task:
    rng = np.random.default_rng(0)
    raws = [rng.integers(0, 256, (4, 4), dtype=np.uint8) for _ in range(count)]
    return Task.from_records(
        "p", "image", raws, ["a_cat" if i % 2 else "dog" for i in range(count)]
    )


@pytest.mark.parametrize("bias", [None, -3.0])
def test_a_class_is_the_mean_of_unit_vectors_by_the_scale_of_the_base(bias: float | None) -> None:
    base, task = two_towers(bias), pictures()
    fitted = NamesConfig(template=TEMPLATES).fit(Encoder(base, "image"), task, NONE)
    inputs = task.inputs(np.arange(24))
    outputs = fitted.outputs(inputs)
    pixels = base.embed_joint(list(inputs.raws), "image_joint", modality="image")[:, :-1]
    for k, name in enumerate(("a cat", "dog")):
        texts = [template.format(name) for template in TEMPLATES]
        vectors = base.embed_joint(texts, "text_joint", modality="bytes")[:, :-1]
        unit = torch.nn.functional.normalize(vectors, dim=-1).mean(dim=0)
        expected = 7.0 * pixels @ (unit / unit.norm()) + (bias or 0.0)
        np.testing.assert_allclose(outputs[:, k], expected.numpy(), atol=1e-5)


def test_one_template_gives_the_logits_of_pairs() -> None:
    base, task = two_towers(), pictures()
    fitted = NamesConfig().fit(Encoder(base, "image"), task, NONE)
    inputs = task.inputs(np.arange(24))
    pixels = base.embed_joint(list(inputs.raws), "image_joint", modality="image")
    names = base.embed_joint(["a cat", "dog"], "text_joint", modality="bytes")
    np.testing.assert_allclose(fitted.outputs(inputs), (pixels @ names.T).numpy(), atol=1e-5)


def test_pictures_are_compared_and_saved(tmp_path: Path) -> None:
    method, base = NamesConfig(template=TEMPLATES), two_towers()
    (row,) = compare(base, pictures(), method, [0], 10, 2)
    assert len(row.scores) == 2
    adapted = saved(tmp_path / "adapted", pictures(), base, method)
    records = list(pictures(4).raws)
    assert load_adapted(tmp_path / "adapted").predict(records) == adapted.predict(records)
    tree = json.loads((tmp_path / "adapted" / "adapted.json").read_text())
    assert tree["method"]["template"] == list(TEMPLATES)


def test_texts_have_several_templates_too() -> None:
    base = mixed_base()
    raws = [f"{'aaaa' if i % 2 else 'zzzz'}{i}" for i in range(20)]
    task = Task.from_records("t", "bytes", raws, [raw[0] for raw in raws])
    encoder = Encoder(base, "bytes")
    outputs = (
        NamesConfig(template=TEMPLATES).fit(encoder, task, NONE).outputs(task.inputs(np.arange(20)))
    )
    records = _unit(encoder.vectors(Inputs(raws), LAST))
    for k, name in enumerate("az"):
        read = [template.format(name) for template in TEMPLATES]
        mean = _unit(encoder.vectors(Inputs(read), LAST)).mean(axis=0)
        np.testing.assert_allclose(outputs[:, k], 20 * records @ _unit(mean), atol=1e-5)


def test_settings_and_refusals() -> None:
    assert method_of("names", ["template=a {} b"]) == NamesConfig(template=("a {} b",))
    listed = method_of("names", ['template=["{}", "a {}"]'])
    assert listed == NamesConfig(template=("{}", "a {}"))
    with pytest.raises(ConfigError, match="template 'x' has no "):
        compare(two_towers(), pictures(), NamesConfig(template=("{}", "x")), [0], 10, 2)
    assert text_side(mixed_base(), "image") is None
    with pytest.raises(ConfigError, match="reads no text"):
        compare(mixed_base(), pictures(), NamesConfig(), [0], 10, 2)


def _unit(x: Any) -> Any:
    vectors = x.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
