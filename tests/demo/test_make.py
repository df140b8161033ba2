"""The demo's images: a lower half is generated from the upper one alone."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from broadbase.demo.make import complete
from broadbase.inference.base import Base
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from support.models import TOWER

IMAGE = {"name": "image", "height": 8, "width": 8, "channels": 1, "patch": 2, "levels": 17}


def test_a_half_is_generated_from_the_other_alone() -> None:
    config = ModelConfig.from_tree({"modalities": {"image": IMAGE}, "towers": {"main": TOWER}})
    model = config.build().eval()
    initialise(model, 0)
    base = Base(config, model, {"image": config.modalities["image"].fit([])})
    truth = load_digits().images[5] / 16
    image = np.asarray(complete(base, truth))[..., 0]
    np.testing.assert_allclose(image[:4], truth[:4], atol=1e-6)
    assert np.abs(image[4:] - truth[4:]).max() > 0.1
    other = truth.copy()
    other[4:] = 1 - other[4:]
    np.testing.assert_array_equal(np.asarray(complete(base, other))[..., 0], image)
