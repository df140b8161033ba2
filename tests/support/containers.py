"""CTranslate2 containers of transformers' Whisper, written as CTranslate2's converter does."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

TYPES = {torch.float32: 0, torch.int8: 1, torch.int16: 2, torch.float16: 4, torch.bfloat16: 5}
ADDED = [{"id": 2, "content": "<|endoftext|>"}, {"id": 3, "content": "<|startoftranscript|>"}]


def text(name: str) -> bytes:
    return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"


def variable(name: str, tensor: Tensor) -> bytes:
    numbers = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    sizes = struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
    return text(name) + sizes + struct.pack("<BI", TYPES[tensor.dtype], len(numbers)) + numbers


def container(
    variables: Mapping[str, Tensor],
    aliases: Mapping[str, str] | None = None,
    version: int = 6,
    spec: str = "WhisperSpec",
) -> bytes:
    """The bytes of a model.bin."""
    head = struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(variables))
    body = b"".join(variable(name, tensor) for name, tensor in variables.items())
    pairs = b"".join(text(alias) + text(name) for alias, name in (aliases or {}).items())
    return head + body + struct.pack("<I", len(aliases or {})) + pairs


def whisper_variables(reference: Any, kind: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """The variables of a Whisper of transformers."""
    config, result = reference.config, dict[str, Tensor]()

    def linear(name: str, *modules: Any) -> None:
        weights = [module.weight for module in modules]
        biases = [w.new_zeros(len(w)) if m.bias is None else m.bias
                  for w, m in zip(weights, modules, strict=True)]  # fmt: skip
        result[f"{name}/weight"], result[f"{name}/bias"] = torch.cat(weights), torch.cat(biases)

    def norm(name: str, module: Any) -> None:
        result[f"{name}/gamma"], result[f"{name}/beta"] = module.weight, module.bias

    for side in ("encoder", "decoder"):
        model = getattr(reference.model, side)
        result[f"{side}/position_encodings/encodings"] = model.embed_positions.weight
        norm(f"{side}/layer_norm", model.layer_norm)
        for i, layer in enumerate(model.layers):
            own, name = layer.self_attn, f"{side}/layer_{i}"
            norm(f"{name}/self_attention/layer_norm", layer.self_attn_layer_norm)
            linear(f"{name}/self_attention/linear_0", own.q_proj, own.k_proj, own.v_proj)
            linear(f"{name}/self_attention/linear_1", own.out_proj)
            if side == "decoder":
                cross = layer.encoder_attn
                norm(f"{name}/attention/layer_norm", layer.encoder_attn_layer_norm)
                linear(f"{name}/attention/linear_0", cross.q_proj)
                linear(f"{name}/attention/linear_1", cross.k_proj, cross.v_proj)
                linear(f"{name}/attention/linear_2", cross.out_proj)
            norm(f"{name}/ffn/layer_norm", layer.final_layer_norm)
            linear(f"{name}/ffn/linear_0", layer.fc1)
            linear(f"{name}/ffn/linear_1", layer.fc2)
    for conv in ("conv1", "conv2"):
        linear(f"encoder/{conv}", getattr(reference.model.encoder, conv))
    result["decoder/embeddings/weight"] = reference.model.decoder.embed_tokens.weight
    tensors = {name: tensor.detach().to(kind) for name, tensor in sorted(result.items())}
    settings: dict[str, Any] = {
        "decoder/activation": np.int8(3), "decoder/alibi": np.int8(0),
        "decoder/alignment_layer": np.int16(-1), "decoder/pre_norm": np.int8(1),
        "encoder/num_heads": np.int16(config.encoder_attention_heads),
        "decoder/num_heads": np.int16(config.decoder_attention_heads),
    }  # fmt: skip
    return {**tensors, **{name: torch.tensor(value) for name, value in settings.items()}}


def write_container(folder: Path, variables: Mapping[str, Tensor], **more: Any) -> None:
    """Write the folder of a container: a config.json without a type, and the special tokens."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"alignment_heads": [[0, 0]]}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    tied = {"decoder/projection/weight": "decoder/embeddings/weight"}
    (folder / "model.bin").write_bytes(container(variables, tied, **more))


def tokenizer() -> dict[str, Any]:
    """A tokenizer.json of four words."""
    special = [
        {**token, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False} for token in ADDED
    ]  # fmt: skip
    vocabulary = {"a": 0, "b": 1, **{str(t["content"]): t["id"] for t in ADDED}}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"}
    parts = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    empty = dict.fromkeys(parts)
    return {"version": "1.0", **empty, "added_tokens": special, "model": model}
