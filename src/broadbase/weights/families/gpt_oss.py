"""gpt-oss (2508.10925): sinks in the softmax, windows in every other layer, clipped experts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.core.errors import ConfigError
from broadbase.nn.experts import ClippedExpertsConfig
from broadbase.nn.softmax import SinksConfig
from broadbase.weights.families.decoder import BLOCK, LAYER, TABLE, decoder
from broadbase.weights.hf_fields import GLOBAL, LOCAL
from broadbase.weights.mapping import ImportedModel, TensorRule

MODEL_TYPE = "gpt_oss"
CONVERT = (
    "transformers: GptOssForCausalLM.from_pretrained(FOLDER, dtype='bfloat16', quantization_config="
    "Mxfp4Config(dequantize=True)).save_pretrained(OTHER)"
)


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a gpt-oss config; ConfigError for files of MXFP4 blocks."""
    if any(name.endswith(("_blocks", "_scales")) for name in names):
        raise ConfigError(
            "these weights are quantised (MXFP4), and only bf16, fp16 and fp32 are read; convert"
            f" them, with {CONVERT}"
        )
    experts = ClippedExpertsConfig(
        hidden_width=config["intermediate_size"],
        num_experts=config["num_local_experts"],
        top_k=config["num_experts_per_tok"],
        slope=config.get("swiglu_alpha", 1.702),
        limit=config.get("swiglu_limit", 7.0),
        load_balance_coef=config.get("router_aux_loss_coef", 0.001),
        z_loss_coef=0.0,
    )
    bias = bool(config.get("attention_bias", True))
    return decoder(
        config,
        names,
        experts,
        kinds=[GLOBAL if i % 2 else LOCAL for i in range(config["num_hidden_layers"])],
        table=TABLE | _experts(config),
        bias=bias,
        out_bias=bias,
        softmax=SinksConfig(),
    )


def _experts(config: Mapping[str, Any]) -> dict[str, TensorRule | str]:
    """Return the names of sinks, router and experts.

    All experts of a layer lie in one tensor, the outputs last; those of gate and up alternate.
    Legend: E experts, D width, F hidden width.
    """
    width, hidden = config["hidden_size"], config["intermediate_size"]
    experts = config["num_local_experts"]
    branch, mlp = f"{BLOCK}.feedforward.branch", f"{LAYER}.mlp"
    rules: dict[str, TensorRule | str] = {
        f"{BLOCK}.attention.branch.softmax.sink": f"{LAYER}.self_attn.sinks",
        f"{branch}.router": f"{mlp}.router",
        f"{branch}.experts.*.down.weight": TensorRule(
            f"{mlp}.experts.down_proj",
            shape=(experts, hidden, width),
            axes=(0, 2, 1),  # E, D, F
            part=(0, width),
            step=width,
        ),
        f"{branch}.experts.*.down.bias": TensorRule(
            f"{mlp}.experts.down_proj_bias",
            shape=(experts, width),
            part=(0, width),
            step=width,
        ),
    }
    for half, part in (("gate", (0, hidden)), ("up", (hidden, 2 * hidden))):
        rules[f"{branch}.experts.*.{half}.weight"] = TensorRule(
            f"{mlp}.experts.gate_up_proj",
            shape=(experts, width, 2 * hidden),
            view=(experts, width, hidden, 2),
            axes=(0, 3, 2, 1),  # E, half, F, D
            part=part,
            step=2 * hidden,
        )
        rules[f"{branch}.experts.*.{half}.bias"] = TensorRule(
            f"{mlp}.experts.gate_up_proj_bias",
            shape=(experts, 2 * hidden),
            view=(experts, hidden, 2),
            axes=(0, 2, 1),  # E, half, F
            part=part,
            step=2 * hidden,
        )
    return rules
