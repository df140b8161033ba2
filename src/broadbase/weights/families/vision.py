"""Published vision transformers: the modality, layers and names that they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broadbase.core.contracts import ModalityConfig
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.published_image import PublishedImageConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.block import BlockConfig, PreNormConfig, ResidualConfig
from broadbase.nn.feedforward import FeedForwardConfig, MLPConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.positions import Learned2DConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.hf_fields import activation, multihead
from broadbase.weights.mapping import TensorRule
from broadbase.weights.sizes import Shape

NORM_EPS = 1e-12  # as in ViT
IMAGENET = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}


def image_modality(config: Mapping[str, Any], **more: Any) -> PublishedImageConfig:
    """Return the modality of a config's images."""
    channels = config.get("num_channels", 3)
    halves = (0.5,) * channels
    return PublishedImageConfig(
        size=config["image_size"],
        patch=config["patch_size"],
        channels=channels,
        **{"mean": halves, "deviation": halves, **more},
    )


def tower(
    config: Mapping[str, Any],
    *,
    start: bool = True,
    residual: type[ResidualConfig] = PreNormConfig,
    feedforward: FeedForwardConfig | None = None,
    size: str = "",
    **more: Any,
) -> TransformerConfig:
    """Return an encoder of a square of patches; the names of its size fields begin with `size`."""
    width, heads = config[f"{size}hidden_size"], config[f"{size}num_attention_heads"]
    norm = LayerNormConfig(eps=config["layer_norm_eps"])
    bias = bool(config.get("qkv_bias", True))
    block = BlockConfig(
        attention=multihead(width, heads, bias=bias),
        feedforward=feedforward
        or MLPConfig(
            hidden_width=config[f"{size}intermediate_size"],
            activation=activation(config, "hidden_act"),
        ),
        residual=residual(norm=norm),
    )
    side = config["image_size"] // config["patch_size"]
    return TransformerConfig(
        width=width,
        layers=(LayersConfig(block=block, repeat=config[f"{size}num_hidden_layers"]),),
        positions=Learned2DConfig(rows=side, columns=side, start=start),
        final_norm=norm,
        **more,
    )


def described(
    model: ModelConfig, tower: str, size: str = "", act: str = "gelu", eps: float = NORM_EPS
) -> dict[str, Any] | None:
    """Return the fields of an image tower of a model's sizes; None without square images.

    The names of size fields begin with `size`. `act` and `eps` stand in for a model whose slots
    have none.
    """
    shape, square = Shape.of(model, tower), _square(model.modalities.get("image"))
    if shape is None or square is None:
        return None
    fields = dict(zip(("image_size", "patch_size", "num_channels"), square, strict=True))
    return {
        f"{size}hidden_size": shape.width,
        f"{size}num_hidden_layers": shape.layers,
        f"{size}num_attention_heads": shape.attention.heads,
        f"{size}intermediate_size": shape.hidden,
        "hidden_act": shape.activation(act),
        "layer_norm_eps": shape.eps(LayerNormConfig, eps),
        **fields,
    }


def _square(image: ModalityConfig | None) -> tuple[int, int, int] | None:
    """Return the side, patch and channels of square images; None for other modalities."""
    match image:
        case PublishedImageConfig():
            return image.size, image.patch, image.channels
        case ImageConfig() if image.height == image.width:
            return image.height, image.patch, image.channels
    return None


def stem(config: Mapping[str, Any], base: str, tower: str = "main") -> dict[str, TensorRule | str]:
    """Return the names of the image embedder and of positions, as in ViT."""
    width, patch = config["hidden_size"], config["patch_size"]
    return {
        "spaces.image.input": patches(config, f"{base}.patch_embeddings.projection"),
        "spaces.image.start": TensorRule(f"{base}.cls_token", shape=(1, 1, width)),
        f"towers.{tower}.positions.place.weight": TensorRule(
            f"{base}.position_embeddings",
            shape=(1, (config["image_size"] // patch) ** 2 + 1, width),
        ),
    }


def patches(config: Mapping[str, Any], name: str) -> TensorRule:
    """Return the rule of a convolution of patches as a linear map of rows, columns and channels."""
    width, patch, channels = config["hidden_size"], config["patch_size"], config["num_channels"]
    return TensorRule(name, axes=(0, 2, 3, 1), shape=(width, channels, patch, patch))


def layers(block: str, layer: str) -> dict[str, TensorRule | str]:
    """Return the names of a layer's modules, as in ViT."""
    names = {
        "attention.norm": "layernorm_before",
        "attention.branch.q": "attention.attention.query",
        "attention.branch.k": "attention.attention.key",
        "attention.branch.v": "attention.attention.value",
        "attention.branch.out": "attention.output.dense",
        "feedforward.norm": "layernorm_after",
        "feedforward.branch.up": "intermediate.dense",
        "feedforward.branch.down": "output.dense",
    }
    return {f"{block}.{module}": f"{layer}.{name}" for module, name in names.items()}
