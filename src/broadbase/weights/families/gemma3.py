"""Gemma 3 (2503.19786), the text decoder: norms of queries and keys, five local layers to a global.

Local and global layers have different rotary embeddings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.nn.norm import OffsetRMSNormConfig
from broadbase.weights.families.gemma2 import gemma
from broadbase.weights.hf_fields import GLOBAL, LOCAL
from broadbase.weights.mapping import ImportedModel

MODEL_TYPE = "gemma3_text"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a Gemma 3 text config."""
    period = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6
    layers = range(1, config["num_hidden_layers"] + 1)
    kinds = [LOCAL if i % period else GLOBAL for i in layers]
    return gemma(
        config, names, kinds=kinds, qk_norm=OffsetRMSNormConfig(eps=config["rms_norm_eps"])
    )
