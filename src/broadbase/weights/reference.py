"""transformers' model of a folder, with which ours is compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.extras import require_extra
from broadbase.inference.base import Base
from broadbase.nn.spaces.discrete import NoHeadConfig
from broadbase.weights.reading import opened
from broadbase.weights.sizes import ids
from broadbase.weights.tensors import OURS

CLASSES = {  # of each family with a head, and of its bare backbone
    "bart": ("BartForConditionalGeneration", "BartModel"),
    "beit": ("BeitForMaskedImageModeling", "BeitModel"),
    "bert": ("BertForMaskedLM", "BertModel"),
    "clip": ("CLIPModel", "CLIPModel"),
    "dinov2": ("Dinov2Model", "Dinov2Model"),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersModel"),
    "esm": ("EsmForMaskedLM", "EsmModel"),
    "eurobert": ("EuroBertForMaskedLM", "EuroBertModel"),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Model"),
    "gemma3_text": ("Gemma3ForCausalLM", "Gemma3TextModel"),
    "gpt2": ("GPT2LMHeadModel", "GPT2Model"),
    "gpt_bigcode": ("GPTBigCodeForCausalLM", "GPTBigCodeModel"),
    "gpt_oss": ("GptOssForCausalLM", "GptOssModel"),
    "llama": ("LlamaForCausalLM", "LlamaModel"),
    "llava": ("LlavaForConditionalGeneration", "LlavaForConditionalGeneration"),
    "mistral": ("MistralForCausalLM", "MistralModel"),
    "mixtral": ("MixtralForCausalLM", "MixtralModel"),
    "modernbert": ("ModernBertForMaskedLM", "ModernBertModel"),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Model"),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Model"),
    "roberta": ("RobertaForMaskedLM", "RobertaModel"),
    "siglip": ("SiglipModel", "SiglipModel"),
    "starcoder2": ("Starcoder2ForCausalLM", "Starcoder2Model"),
    "t5": ("T5ForConditionalGeneration", "T5ForConditionalGeneration"),
    "vit": ("ViTForImageClassification", "ViTModel"),
    "vit_mae": ("ViTMAEForPreTraining", "ViTMAEForPreTraining"),
    "whisper": ("WhisperForConditionalGeneration", "WhisperForConditionalGeneration"),
}
HOW = re.compile(  # fields of a config.json that transformers takes code, files or classes from
    "implementation|kernel|quantization|auto_map|adapter|name_or_path|architectures|_plan$|dtype"
    "|per_layer_config|return_dict|output_attentions|output_hidden_states|torchscript"
)


def reference_of(base: Base, folder: Path) -> Any:
    """Return transformers' model with the sizes and tensors of a folder.

    Its class is one of `CLASSES`, by family. Nothing else of the folder is read, and nothing is
    fetched. ConfigError if transformers has no such family, DataError if it cannot build the model.
    """
    hf = require_extra("transformers", "transformers", "--check")
    config, tensors = opened(folder)
    family = config["model_type"]
    if family not in CLASSES:
        raise ConfigError(
            f"transformers has no {family}, so there is nothing to compare {folder} with; leave"
            " --check out"
        )
    headed, bare = CLASSES[family]
    spaces = filter(None, map(ids, base.config.modalities.values()))
    heads = any(not isinstance(space.head, NoHeadConfig) for space in spaces)
    names = [name for name, stored in tensors.stored.items() if stored.file.name != OURS]
    state = tensors.read({name: tensors.piece(name) for name in names})
    kind = getattr(hf, headed if heads else bare)
    how = {"dtype": torch.float32, "attn_implementation": "eager", "local_files_only": True}
    try:
        sizes = kind.config_class.from_dict(_computed(config))
        return kind.from_pretrained(None, config=sizes, state_dict=state, **how).eval()
    except Exception as error:  # of many kinds
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            f"{folder / 'config.json'}: transformers builds no {kind.__name__} of it: {reason}"
        ) from None


def _computed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json without fields that say how and with what code to compute."""
    return {
        name: _computed(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if not HOW.search(name)
    }


@contextmanager
def offline() -> Iterator[None]:
    """Keep the hub's client from fetching anything."""
    constants: Any = require_extra("huggingface_hub.constants", "transformers", "--check")
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
