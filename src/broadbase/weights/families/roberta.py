"""RoBERTa (Liu et al. 2019), with or without its head; ChemBERTa."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from broadbase.modalities.tokens import TokensConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.positions import LearnedConfig
from broadbase.nn.spaces.discrete import DiscreteConfig, MLMHeadConfig
from broadbase.weights.families.bert import GAMMA, encoder, table
from broadbase.weights.hf_fields import require, with_head
from broadbase.weights.mapping import ImportedModel

MODEL_TYPE = "roberta"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a RoBERTa config; positions count from the row after that of padding."""
    require(config, pad_token_id=(1,))
    vocabulary, length = config["vocab_size"], config["max_position_embeddings"]
    head = MLMHeadConfig(norm=LayerNormConfig(eps=config["layer_norm_eps"]))
    discrete = DiscreteConfig(vocab_size=vocabulary, bias=True, head=head, mask_id=vocabulary - 1)
    text = TokensConfig(
        discrete=with_head(discrete, names, "lm_head"),
        start=config.get("bos_token_id") or 0,
        end=config.get("eos_token_id", 2),
    )
    positions = LearnedConfig(num_positions=length, offset=2, token_types=config["type_vocab_size"])
    return ImportedModel(
        encoder(config, text, positions),
        "full",
        table("roberta", "lm_head", "lm_head"),
        "roberta.",
        spellings={**GAMMA, r"^lm_head\.layer_norm": "lm_head.LayerNorm"},
        copies={
            "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
            "lm_head.decoder.bias": "lm_head.bias",
        },
        derived={r"roberta\.embeddings\.position_ids": lambda: torch.arange(length)[None]},
        kept=r"roberta\.pooler\..*",
    )
