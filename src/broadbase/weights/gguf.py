"""GGUF, for llama.cpp: text decoders trained here, or read from a folder, that are a Llama.

Legend: H heads, E head_dim, D width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from broadbase.core.errors import ConfigError, ResourceError
from broadbase.core.optional import optional
from broadbase.model.base import Base
from broadbase.weights.folder import layout

# The nearest that llama.cpp knows to how text is cut before merging: equal but for runs of more
# than three digits, which are cut there in other places.
PRE = "gpt-2"
NORMAL, CONTROL = 1, 3  # llama.cpp's token types
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(base: Base, file: Path) -> None:
    """Write `file`; ConfigError where the base is not a plain Llama with a byte-level BPE."""
    gguf = optional("gguf", "gguf", "--to gguf")
    config, tensors, _ = layout(base)
    if config["model_type"] != "llama" or config.get("rope_scaling") or _scaled(config):
        raise ConfigError("only text decoders that are a Llama, without rotary scaling, go to GGUF")
    try:
        writer = gguf.GGUFWriter(file, "llama")
        _settings(writer, config)
        _tokenizer(writer, base, config)
        for name, tensor in tensors.items():
            writer.add_tensor(*_tensor(name, tensor.make(), config))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    except OSError as error:
        file.unlink(missing_ok=True)
        raise ResourceError(f"{file} cannot be written: {error}; free space there") from None


def _scaled(config: Mapping[str, Any]) -> bool:
    return bool((config.get("rope_parameters") or {}).get("rope_type", "default") != "default")


def _settings(writer: Any, config: Mapping[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    rope = config.get("rope_parameters") or config
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _tokenizer(writer: Any, base: Base, config: Mapping[str, Any]) -> None:
    tokenizer = getattr(next(iter(base.codecs.values())), "tokenizer", None)
    tree = json.loads(tokenizer.to_str()) if tokenizer is not None else {"model": {}}
    if tree["model"].get("type") != "BPE":
        raise ConfigError("GGUF holds the tokenizer too, and this base has no byte-pair encoding")
    marks = {token["id"]: token["content"] for token in tree["added_tokens"]}
    words = {i: word for word, i in tree["model"]["vocab"].items()} | marks
    count = config["vocab_size"]  # ids without a word belong to objectives
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE)
    writer.add_token_list([words.get(i, f"<|unused {i}|>") for i in range(count)])
    known = [NORMAL if i in words and i not in marks else CONTROL for i in range(count)]
    writer.add_token_types(known)
    writer.add_token_merges([" ".join(pair) for pair in tree["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    if config["eos_token_id"] is not None:
        writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(True)


def _tensor(name: str, tensor: Tensor, config: Mapping[str, Any]) -> tuple[str, Any]:
    """A tensor under llama.cpp's name; queries and keys turn neighbouring numbers there, not halves
    of a head."""
    *_, leaf = name.split(".")
    module = name.removesuffix(f".{leaf}")
    layer = ""
    if module.startswith("model.layers."):
        _, _, number, module = module.split(".", 3)
        layer = f"blk.{number}."
    heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
    known = NAMES[module]
    if known in heads:
        halves = tensor.reshape(config[heads[known]], 2, -1, *tensor.shape[1:])
        tensor = halves.transpose(1, 2).reshape(tensor.shape)
    return f"{layer}{known}.{leaf}", tensor.detach().to("cpu", torch.float32).contiguous().numpy()
