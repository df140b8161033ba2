"""Mixtral (Jiang et al. 2024): Mistral with experts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.nn.experts import ExpertsConfig
from broadbase.weights.families.decoder import BLOCK, LAYER, TABLE, decoder
from broadbase.weights.hf_fields import GLOBAL, LOCAL, activation
from broadbase.weights.mapping import ImportedModel

MODEL_TYPE = "mixtral"
EXPERTS = {
    f"{BLOCK}.feedforward.branch.router": f"{LAYER}.block_sparse_moe.gate",
    f"{BLOCK}.feedforward.branch.experts.*.gate": f"{LAYER}.block_sparse_moe.experts.*.w1",
    f"{BLOCK}.feedforward.branch.experts.*.up": f"{LAYER}.block_sparse_moe.experts.*.w3",
    f"{BLOCK}.feedforward.branch.experts.*.down": f"{LAYER}.block_sparse_moe.experts.*.w2",
}


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a Mixtral config."""
    experts = ExpertsConfig(
        hidden_width=config["intermediate_size"],
        num_experts=config["num_local_experts"],
        top_k=config["num_experts_per_tok"],
        activation=activation(config, "hidden_act"),
        load_balance_coef=config.get("router_aux_loss_coef", 0.001),
        z_loss_coef=0.0,
    )
    kinds = [LOCAL if config.get("sliding_window") else GLOBAL] * config["num_hidden_layers"]
    return decoder(config, names, experts, kinds=kinds, table=TABLE | EXPERTS)
