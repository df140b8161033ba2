"""Tokenizers of pictures, trained on digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from broadbase.data.samples.builtin import DigitsConfig
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run

IMAGE = {"name": "image", "height": 8, "width": 8, "channels": 1, "patch": 2, "levels": 17}

DIGITS = DigitsConfig().tree()


def digits(recipe: str, out: Path, steps: int, **changes: Any) -> Run:
    """A short run of a recipe on scikit-learn's digits, patches of 2 x 2."""
    tree: dict[str, Any] = find_recipe(recipe).build(2, "DATA").tree()
    tree["model"]["modalities"]["image"] = IMAGE
    for name, modality in (tree["model"]["modalities"] | tree["model"]["heads"]).items():
        modality.update(changes.get(name, {}))
    for connector in tree["model"]["connectors"]:
        connector.update(changes.get("connector", {}))
    for source in tree["data"]["sources"].values():
        source.update({"source": DIGITS, "batch_size": 32, "sequence_length": 17})
    tree["train"] |= {"steps": steps, "evaluate_every": steps, "save_every": steps}
    tree["schedule"]["warmup"] = 10
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    run = Run.create(RunConfig.from_tree(tree), out)
    run.train()
    return run


def train_tokenizer(folder: Path) -> Path:
    """Train a tokenizer of 64 codes on digits."""
    digits("vq", folder, 80, pixels={"channels": 4}, connector={"codes": 64, "code_dim": 8})
    return folder
