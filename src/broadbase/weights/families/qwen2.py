"""Qwen2 and Qwen2.5 (Yang et al. 2024): Llama with a bias on queries, keys and values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from broadbase.weights.families.decoder import decoder, gated
from broadbase.weights.hf_fields import GLOBAL, LOCAL
from broadbase.weights.mapping import ImportedModel

MODEL_TYPE = "qwen2"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a Qwen2 config."""
    return decoder(config, names, gated(config), kinds=kinds(config), bias=True)


def kinds(config: Mapping[str, Any]) -> Sequence[str]:
    """Return the kind of each layer: LOCAL from max_window_layers on, if windows are used."""
    layers, num_global = config["num_hidden_layers"], config.get("max_window_layers", 28)
    windows = config.get("use_sliding_window") and config.get("sliding_window")
    return [LOCAL if windows and i >= num_global else GLOBAL for i in range(layers)]
