"""DINOv2 with registers (Darcet et al. 2024)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.weights.families.dinov2 import encoder
from broadbase.weights.mapping import ImportedModel

MODEL_TYPE = "dinov2_with_registers"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a config of DINOv2 with registers."""
    return encoder(config, names, config["num_register_tokens"])
