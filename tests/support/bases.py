"""Small bases with random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from broadbase.inference.base import Base
from broadbase.inference.usages import plain_usage
from broadbase.modalities.protein import ProteinConfig
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from support.models import MODALITIES, TOWER

TEXTS = ["the cat sat on the mat", "a cat and a mat and a hat", "the hat of the cat"]


def text_base() -> Base:
    tree = {"modalities": {"text": {"name": "text", "vocab_size": 300}}, "towers": {"main": TOWER}}
    config = ModelConfig.from_tree(tree)
    model = config.build()
    initialise(model, 0)
    return Base(config, model.eval(), {"text": config.modalities["text"].fit(TEXTS)})


def normed_base() -> Base:
    """The same, its embedding normed: what the recipes of words make."""
    base = text_base()
    towers = {"main": {**TOWER, "input_norm": {"name": "rms"}}}
    config = ModelConfig.from_tree({**base.config.tree(), "towers": towers})
    model = config.build()
    initialise(model, 0)
    with torch.no_grad():
        gain = model.state_dict()["towers.main.input_norm.weight"]
        gain.copy_(torch.linspace(0.5, 2, len(gain)))
    return replace(base, config=config, model=model.eval())


def mixed_base() -> Base:
    config = ModelConfig.from_tree({"modalities": MODALITIES, "towers": {"main": TOWER}})
    model = config.build()
    initialise(model, 0)
    return Base(config, model.eval(), {k: m.fit([]) for k, m in config.modalities.items()})


def protein_base(pattern: str = "full", seed: int = 0) -> Base:
    """A base of proteins from random init."""
    tower = {**TOWER, "width": 64}  # so that 20 letters can be told apart
    tree = {"modalities": {"protein": {"name": "protein"}}, "towers": {"main": tower}}
    config = ModelConfig.from_tree(tree)
    model = config.build()
    initialise(model, seed)
    return Base(config, model.eval(), {"protein": ProteinConfig().fit([])}, plain_usage(pattern))


def base_of(name: str, records: list[Any], pattern: str = "causal") -> Base:
    """A tiny base of one modality, its codec fitted to a few records."""
    tree = {"modalities": {name: {"name": name}}, "towers": {"main": TOWER}}
    config = ModelConfig.from_tree(tree)
    model = config.build()
    initialise(model, 0)
    return Base(
        config, model.eval(), {name: config.modalities[name].fit(records)}, plain_usage(pattern)
    )
