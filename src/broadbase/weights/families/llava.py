"""LLaVA (Liu et al. 2023): the output of CLIP, through two linear maps, in the text of a Llama."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch

from broadbase.core.errors import ConfigError
from broadbase.model.model import ModelConfig
from broadbase.nn.connector import MLPConnectorConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.tower import TransformerConfig
from broadbase.weights.families import clip, llama
from broadbase.weights.families.vision import image_modality, tower
from broadbase.weights.hf_fields import activation, require
from broadbase.weights.mapping import ImportedModel, TensorRule, with_prefix

MODEL_TYPE = "llava"
TEXT = {  # defaults of transformers
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "vocab_size": 32000,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION, LANGUAGE = "vision_tower.", "language_model."
POSITIONS = r"vision_tower\.vision_model\.embeddings\.position_ids"
LAYERS = f"{VISION}vision_model.encoder.layers"
SPELLINGS = {  # of transformers 5, and of what 4.52 and later wrote
    r"^model\.(?=language_model\.|vision_tower\.|multi_modal_projector\.)": "",
    r"^lm_head\.": f"{LANGUAGE}lm_head.",
    r"^language_model\.(?!model\.|lm_head\.)": f"{LANGUAGE}model.",
    r"^vision_tower\.(?!vision_model\.)": f"{VISION}vision_model.",
}


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a LLaVA config: `main` reads an image as a `StreamSegment` of `vision`.

    The layers of CLIP after the last one that is read are kept, and not used.
    """
    vision, language = clip.VISION | config["vision_config"], TEXT | config["text_config"]
    require(vision, model_type=("clip_vision_model",))
    require(language, model_type=("llama",))
    require(config, vision_feature_select_strategy=("default", "full"))
    tied = config.get("tie_word_embeddings") or language.get("tie_word_embeddings", False)
    text = llama.read(language | {"tie_word_embeddings": tied}, names)
    chosen = config.get("vision_feature_layer", -2)
    depths = [
        _depth(int(layer), vision["num_hidden_layers"])
        for layer in (chosen if isinstance(chosen, list) else [chosen])
    ]
    depth = max(depths)
    projector = MLPConnectorConfig(
        source="vision",
        target="main",
        activation=activation({"projector_hidden_act": "gelu", **config}, "projector_hidden_act"),
        bias=bool(config.get("multimodal_projector_bias", True)),
        skip=int(config.get("vision_feature_select_strategy", "default") == "default"),
        layers=tuple(depths) if len(depths) > 1 else (),
    )
    spaces = {
        name: space.replace(placeholder_ids={"image": config.get("image_token_index", 32000)})
        for name, space in text.config.modalities.items()
    }
    model = ModelConfig(
        modalities={**spaces, "image": image_modality(vision, bias=False, **clip.PIXELS)},
        towers={**text.config.towers, "vision": _tower(vision, depth)},
        tower_of={"image": "vision"},
        connectors=(projector,),
    )
    unread = "|".join(str(i) for i in range(depth, vision["num_hidden_layers"])) or "(?!)"
    tokens = (vision["image_size"] // vision["patch_size"]) ** 2 + 1
    return ImportedModel(
        model,
        text.pattern,
        with_prefix(LANGUAGE, text.table) | _vision_table(vision),
        spellings=SPELLINGS,
        copies={LANGUAGE + copy: LANGUAGE + original for copy, original in text.copies.items()},
        derived={
            POSITIONS: lambda: torch.arange(tokens)[None],
            **{re.escape(LANGUAGE) + name: value for name, value in text.derived.items()},
        },
        patterns={"vision": "full"},
        kept=rf"{VISION}vision_model\.post_layernorm\..*|{LAYERS}\.({unread})\..*",
    )


def _depth(chosen: int, layers: int) -> int:
    """Return after which layer of CLIP, counted from 1, an image is read."""
    depth = chosen if chosen >= 0 else layers + 1 + chosen
    if not 1 <= depth <= layers:
        raise ConfigError(
            f"config.json: vision_feature_layer={chosen} is none of {layers} layers' outputs"
        )
    return depth


def _tower(vision: Mapping[str, Any], depth: int) -> TransformerConfig:
    """Return CLIP's tower up to a layer, without a final norm."""
    clip_tower = tower(vision, input_norm=LayerNormConfig(eps=vision["layer_norm_eps"]))
    (stack,) = clip_tower.layers
    layers = (stack.replace(repeat=depth),)
    return clip_tower.replace(layers=layers, final_norm=None)


def _vision_table(vision: Mapping[str, Any]) -> dict[str, TensorRule | str]:
    """Return the names of the vision tower and the connector."""
    both = clip.table(vision, "vision") | clip.layers("vision")
    rules = {
        k: rule for k, rule in both.items() if k.startswith(("spaces.image.", "towers.vision."))
    }
    return with_prefix(VISION, rules) | {
        "connectors.vision>main.first": "multi_modal_projector.linear_1",
        "connectors.vision>main.second": "multi_modal_projector.linear_2",
    }
