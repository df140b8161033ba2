"""Random LLaVA folders with a processor of transformers, and photos for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from support.references import IMAGE, LLAVA, saved

SIDE = 20


def photo(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Slopes and noise, so that a resize done otherwise shows."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / (width + height)
    slopes = np.stack([rows, columns, 1 - rows], axis=-1) * 200
    full = (slopes + rng.uniform(0, 50, slopes.shape)).astype(np.uint8)
    return Image.fromarray(full).convert(mode)


def processor(settings: dict[str, Any], features: str = "default") -> Any:
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(IMAGE)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens(["<image>"])
    words.post_processor = processors.TemplateProcessing("w3 $A", special_tokens=[("w3", 3)])
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w3", pad_token="w1")
    shape = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    return hf.LlavaProcessor(
        hf.LlavaImageProcessorPil(**{**shape, **settings}),
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy=features,
        num_additional_image_tokens=1,
    )


def published(name: str, folder: Path, settings: dict[str, Any] | None = None) -> tuple[Any, Any]:
    """A reference and its processor, saved with save_pretrained."""
    reference = saved(LLAVA[name], folder)
    taken = processor(settings or {}, reference.config.vision_feature_select_strategy)
    taken.save_pretrained(folder)
    reference.generation_config.eos_token_id = None
    reference.generation_config.pad_token_id = 1
    return reference, taken
