"""Gemma 2 (2408.00118): pre- and post-norms, soft-capped logits, windows in every other layer."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from broadbase.nn.block import SandwichConfig
from broadbase.nn.norm import OffsetRMSNormConfig
from broadbase.nn.softmax import CappedConfig, PlainSoftmaxConfig
from broadbase.weights.families.decoder import BLOCK, LAYER, TABLE, decoder, gated
from broadbase.weights.hf_fields import GLOBAL, LOCAL, require
from broadbase.weights.mapping import ImportedModel

MODEL_TYPE = "gemma2"
SANDWICH = {
    f"{BLOCK}.attention.after": f"{LAYER}.post_attention_layernorm",
    f"{BLOCK}.feedforward.norm": f"{LAYER}.pre_feedforward_layernorm",
    f"{BLOCK}.feedforward.after": f"{LAYER}.post_feedforward_layernorm",
}


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a Gemma 2 config."""
    kinds = [LOCAL if i % 2 == 0 else GLOBAL for i in range(config["num_hidden_layers"])]
    return gemma(config, names, kinds=kinds)


def gemma(config: Mapping[str, Any], names: Collection[str], **more: Any) -> ImportedModel:
    """Return what Gemma 2 and 3 have in common; `more` are arguments of `decoder`."""
    require(config, use_bidirectional_attention=(None, False))
    filled = {"hidden_activation": "gelu_pytorch_tanh", **config}
    cap, bias = config.get("attn_logit_softcapping"), bool(config.get("attention_bias", False))
    return decoder(
        config,
        names,
        gated(filled, "hidden_activation"),
        norm=OffsetRMSNormConfig(eps=config["rms_norm_eps"]),
        residual=SandwichConfig,
        table=TABLE | SANDWICH,
        discrete={
            "tie_embeddings": True,
            "scale": math.sqrt(config["hidden_size"]),
            "softcap": config.get("final_logit_softcapping"),
        },
        bias=bias,
        out_bias=bias,
        scale=config["query_pre_attn_scalar"] ** -0.5,
        softmax=CappedConfig(softcap=cap) if cap else PlainSoftmaxConfig(),
        **more,
    )
