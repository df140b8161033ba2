"""GPT-BigCode (StarCoder; Li et al. 2023): GPT-2 with one head of keys and values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.weights.families import gpt2
from broadbase.weights.hf_fields import require
from broadbase.weights.mapping import ImportedModel

MODEL_TYPE = "gpt_bigcode"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a GPT-BigCode config; its matrices are stored as [out, in]."""
    require(config, multi_query=(True,))
    width = config["n_embd"]
    head = width // config["n_head"]
    cuts = {"q": (0, width), "k": (width, width + head), "v": (width + head, width + 2 * head)}
    return ImportedModel(
        gpt2.model(config, 1),
        "causal",
        gpt2.table(cuts, None),
        "transformer.",
        copies={"lm_head.weight": "transformer.wte.weight"},
    )
