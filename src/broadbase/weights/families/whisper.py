"""Whisper (Radford et al. 2023): an encoder of sound, a decoder of text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.modalities.spectrum import SpectrumConfig
from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.block import PreNormConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.positions import LearnedConfig
from broadbase.nn.spaces.discrete import DiscreteConfig
from broadbase.nn.tower import TransformerConfig
from broadbase.weights.families.encdec import SIDES, layers, table
from broadbase.weights.hf_fields import first, require
from broadbase.weights.mapping import ImportedModel, TensorRule

MODEL_TYPE = "whisper"
LENGTHS = {"encoder": "max_source_positions", "decoder": "max_target_positions"}


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a Whisper config; the encoder's positions are fixed sines, which the files hold."""
    require(config, tie_word_embeddings=(True,), scale_embedding=(False,))
    norm = LayerNormConfig()
    towers = {
        side: TransformerConfig(
            width=config["d_model"],
            layers=layers(config, side, PreNormConfig(norm=norm), k_bias=False),
            positions=LearnedConfig(num_positions=config[LENGTHS[side]]),
            final_norm=norm,
        )
        for side in SIDES
    }
    text = TokensConfig(
        discrete=DiscreteConfig(vocab_size=config["vocab_size"]),
        start=config["decoder_start_token_id"],
        end=first(config["eos_token_id"]),
    )
    sound = SpectrumConfig(mels=config["num_mel_bins"], max_length=config["max_source_positions"])
    extra: dict[str, TensorRule | str] = {
        "spaces.audio.near": "model.encoder.conv1",
        "spaces.audio.halve": "model.encoder.conv2",
        "spaces.text.embedding": "model.decoder.embed_tokens",
    }
    norms = {f"towers.{side}.final_norm": f"model.{side}.layer_norm" for side in SIDES}
    return ImportedModel(
        ModelConfig(
            modalities={"audio": sound, "text": text}, towers=towers, tower_of={"text": "decoder"}
        ),
        "full",
        table() | extra | norms,
        "model.",
        copies={"proj_out.weight": "model.decoder.embed_tokens.weight"},
    )
