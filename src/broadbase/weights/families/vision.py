"""What published vision transformers share: pictures, layers, names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broadbase.core.contracts import ModalityConfig
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.published_image import PublishedImageConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig, PreNormConfig, ResidualConfig
from broadbase.nn.feedforward import FeedForwardConfig, MLPConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.positions import Learned2DConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.weights.hf_fields import activation
from broadbase.weights.mapping import TensorRule
from broadbase.weights.sizes import Shape

NORM_EPS = 1e-12  # ViT's
IMAGENET = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}


def pictures(config: Mapping[str, Any], **more: Any) -> PublishedImageConfig:
    """The modality of a config's pictures."""
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
    """An encoder of a square of patches; `size` begins the fields that its sizes stand in."""
    width, heads = config[f"{size}hidden_size"], config[f"{size}num_attention_heads"]
    norm = LayerNormConfig(eps=config["layer_norm_eps"])
    bias = bool(config.get("qkv_bias", True))
    block = BlockConfig(
        attention=GroupedQueryConfig(
            heads=heads, kv_heads=heads, head_dim=width // heads, bias=bias, out_bias=True
        ),
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
    """The fields of a tower of pictures of a model's sizes; `size` begins those that its sizes
    stand in, `act` and `eps` are taken where it has other slots. None without square pictures.
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


def _square(picture: ModalityConfig | None) -> tuple[int, int, int] | None:
    """Side, patch and channels of square pictures; None of others."""
    match picture:
        case PublishedImageConfig():
            return picture.size, picture.patch, picture.channels
        case ImageConfig() if picture.height == picture.width:
            return picture.height, picture.patch, picture.channels
    return None


def stem(config: Mapping[str, Any], base: str, tower: str = "main") -> dict[str, TensorRule | str]:
    """Names of the Space of pictures and of positions, as in ViT's embeddings."""
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
    """A convolution of patches as our linear map: rows, columns, then channels."""
    width, patch, channels = config["hidden_size"], config["patch_size"], config["num_channels"]
    return TensorRule(name, axes=(0, 2, 3, 1), shape=(width, channels, patch, patch))


def layers(mine: str, theirs: str) -> dict[str, TensorRule | str]:
    """Names of a layer's parts, as in ViT."""
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
    return {f"{mine}.{ours}": f"{theirs}.{name}" for ours, name in names.items()}
