"""Mistral (Jiang et al. 2023): Llama with a sliding window, in its first version."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.weights.families.decoder import decoder, gated
from broadbase.weights.hf_fields import GLOBAL, LOCAL
from broadbase.weights.mapping import ImportedModel

MODEL_TYPE = "mistral"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a Mistral config."""
    kinds = [LOCAL if config.get("sliding_window") else GLOBAL] * config["num_hidden_layers"]
    return decoder(config, names, gated(config), kinds=kinds)
