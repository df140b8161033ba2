"""ViT (Dosovitskiy et al. 2021), with or without its classifier; DINO."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.core.contracts import ModalityConfig
from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.spaces.discrete import DiscreteConfig
from broadbase.weights.families.vision import described, image_modality, layers, stem, tower
from broadbase.weights.mapping import ImportedModel
from broadbase.weights.sizes import Ends

MODEL_TYPE = "vit"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a ViT config: the classifier is a modality of labels, predicted at the start."""
    config = {"num_channels": 3, **config}
    spaces: dict[str, ModalityConfig] = {"image": image_modality(config, resample="bilinear")}
    labels = len(config.get("id2label") or (0, 1))
    if "classifier.weight" in names:  # its rows are the vectors of the labels
        spaces["label"] = TokensConfig(discrete=DiscreteConfig(vocab_size=labels, bias=True))
    extra = {
        "spaces.label.embedding": "classifier",
        "spaces.label.bias": "classifier.bias",
        "towers.main.final_norm": "vit.layernorm",
    }
    return ImportedModel(
        ModelConfig(modalities=spaces, towers={"main": tower(config)}),
        "full",
        stem(config, "vit.embeddings")
        | layers("towers.main.blocks.*", "vit.encoder.layer.*")
        | extra,
        "vit.",
        codecs=("image",),
        kept=r"vit\.pooler\..*|vit\.embeddings\.mask_token|decoder\..*",
    )


def write(model: ModelConfig, ends: Ends) -> dict[str, Any] | None:
    """Return the config.json of an encoder of a model's sizes, without a classifier."""
    config = described(model, "main")
    return config and {"architectures": ["ViTModel"], "qkv_bias": True, **config}
