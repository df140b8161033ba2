"""GGUF, for llama.cpp: text decoders, trained here or read from a folder, with their tokenizer.

Legend: H heads, E head_dim, F = E / 2 frequencies, D width.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from broadbase.core.errors import ConfigError
from broadbase.core.extras import require_extra
from broadbase.core.files import draft_file
from broadbase.inference.base import Base
from broadbase.inference.documents import opening
from broadbase.modalities.source_code import CodeConfig
from broadbase.modalities.text import TextConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.nn.rotary import RotaryConfig
from broadbase.weights.folder import layout
from broadbase.weights.hf_fields import every, first
from broadbase.weights.shards import LazyTensor


@dataclass(frozen=True)
class Form:
    """How llama.cpp represents an architecture, besides names."""

    name: str
    paired: bool = False  # it rotates neighbouring numbers of a head, and reads scaled frequencies
    transposed: tuple[str, ...] = ()  # modules whose matrices are published as [in, out]


FORMS = {
    "llama": Form("llama", paired=True),
    "mistral": Form("llama", paired=True),
    "qwen2": Form("qwen2"),
    "qwen3": Form("qwen3"),
    "starcoder2": Form("starcoder2"),
    "gpt2": Form("gpt2", transposed=("c_attn", "c_proj", "c_fc")),
}
LENGTH = 2048  # of a context, where config.json has none: the default of transformers for Llama
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The name in llama.cpp of each rule by which text is cut before merging. Tokenizers trained here
# get the nearest rule: text is cut differently after an apostrophe and in runs of more than three
# digits, code where merges cross the end of a line (superbpe cuts digits). bench/llamacpp.py
# measures what that costs.
CUTS = {
    GPT2: "gpt-2",
    LLAMA3: "llama-bpe",
    LLAMA3.replace("{1,3}", ""): "qwen2",
    TextConfig.words: "gpt-2",
    CodeConfig.words: "superbpe",
}


def write_gguf(base: Base, file: Path) -> None:
    """Write `file`; ConfigError if llama.cpp has no such decoder or tokenizer."""
    gguf = require_extra("gguf", "gguf", "--to gguf")
    config, tensors, _ = layout(base)
    form = _form(base, config)
    with draft_file(file) as draft, closing(gguf.GGUFWriter(draft, form.name)) as writer:
        _settings(writer, base, config)
        _tokenizer(writer, gguf.TokenType, base, config)
        kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == form.name)
        names = gguf.get_tensor_name_map(kind, len(base.model.towers["main"].blocks))  # type: ignore[arg-type]
        for name, tensor in _tensors(base, tensors, form):
            gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if gguf_name is None:
                raise ConfigError(
                    f"llama.cpp has no tensor {name!r} in a {form.name}; export --to safetensors"
                )
            tensor = tensor.detach().to("cpu", torch.float32)
            writer.add_tensor(gguf_name, tensor.contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def _form(base: Base, config: Mapping[str, Any]) -> Form:
    """Return the form of a base; ConfigError if llama.cpp has none."""
    form = FORMS.get(config["model_type"])
    if form is None:
        raise ConfigError(
            f"only text decoders go to GGUF, of the types {', '.join(FORMS)}: this is a"
            f" {config['model_type']}"
        )
    tower: Any = base.config.towers["main"]
    if any(layers.block.attention.span for layers in tower.layers):
        raise ConfigError(
            f"llama.cpp's {form.name} attends to all earlier tokens and has no windows; export --to"
            " safetensors"
        )
    if len({layers.block.positions for layers in tower.layers}) > 1 or (
        getattr(tower.positions, "scaling", None) and not form.paired
    ):
        raise ConfigError(f"GGUF has no rotary scaling of a {form.name}; export --to safetensors")
    return form


def _settings(writer: Any, base: Base, config: Mapping[str, Any]) -> None:
    tower: Any = base.config.towers["main"]
    block, positions, norm = tower.layers[0].block, tower.positions, tower.final_norm
    writer.add_embedding_length(tower.width)
    writer.add_block_count(sum(layers.repeat for layers in tower.layers))
    writer.add_feed_forward_length(block.feedforward.hidden_width)
    writer.add_head_count(block.attention.heads)
    writer.add_head_count_kv(block.attention.kv_heads)
    writer.add_key_length(block.attention.head_dim)
    writer.add_value_length(block.attention.head_dim)
    if isinstance(norm, RMSNormConfig):
        writer.add_layer_norm_rms_eps(norm.eps)
    else:
        writer.add_layer_norm_eps(norm.eps)
    if isinstance(positions, RotaryConfig):
        writer.add_context_length(config.get("max_position_embeddings", LENGTH))
        writer.add_rope_dimension_count(block.attention.head_dim)
        writer.add_rope_freq_base(positions.theta)
        if positions.scaling is not None:
            writer.add_rope_scaling_attn_factors(positions.scaling.gain)
    else:
        writer.add_context_length(positions.num_positions)
    writer.add_vocab_size(config["vocab_size"])


def _tokenizer(writer: Any, kinds: Any, base: Base, config: Mapping[str, Any]) -> None:
    tokenizer = next(iter(base.codecs.values())).tokenizer
    tree = json.loads(tokenizer.to_str()) if tokenizer is not None else {"model": {}}
    cut = CUTS.get(_cut(tree))
    if tree["model"].get("type") != "BPE" or cut is None:
        raise ConfigError(
            "GGUF includes the tokenizer, and this base has no byte-level byte-pair encoding that"
            " llama.cpp supports; export --to safetensors"
        )
    added = {token["id"]: token for token in tree["added_tokens"]}
    words = {i: word for word, i in tree["model"]["vocab"].items()}
    words |= {i: token["content"] for i, token in added.items()}
    count = config["vocab_size"]  # ids without a word are sentinels, the mask, or unused

    def kind(i: int) -> int:
        if i not in words:
            return int(kinds.UNUSED)
        if i not in added:
            return int(kinds.NORMAL)
        return int(kinds.CONTROL if added[i]["special"] else kinds.USER_DEFINED)

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list([words.get(i, f"<|unused {i}|>") for i in range(count)])
    writer.add_token_types([kind(i) for i in range(count)])
    writer.add_token_merges(
        [pair if isinstance(pair, str) else " ".join(pair) for pair in tree["model"]["merges"]]
    )
    codec = next(iter(base.codecs.values()))
    before, after = opening(codec), codec.after
    start = int(before[0]) if len(before) else first(config.get("bos_token_id"))
    ends = codec.ends or every(config.get("eos_token_id"))
    for role, i in zip(("bos", "eos", "eot", "eom"), (start, *ends), strict=False):
        if i is not None and i >= 0:
            getattr(writer, f"add_{role}_token_id")(i)
    writer.add_add_bos_token(len(before) > 0)
    writer.add_add_eos_token(after is not None and len(after) > 0)
    if (template := _chat(base.origin.files if base.origin else {})) is not None:
        writer.add_chat_template(template)


def _chat(files: Mapping[str, bytes]) -> str | None:
    """Return the chat template of a tokenizer: a separate file, or one of its settings."""
    if "chat_template.jinja" in files:
        return files["chat_template.jinja"].decode(errors="replace")
    template = json.loads(files.get("tokenizer_config.json", b"{}")).get("chat_template")
    if isinstance(template, list):  # several with names
        template = next((t.get("template") for t in template if t.get("name") == "default"), None)
    return template if isinstance(template, str) else None


def _cut(tree: Mapping[str, Any]) -> str:
    """Return the regex by which a tokenizer cuts text before merging; "" if it has none."""
    first = tree.get("pre_tokenizer") or {}
    parts = first.get("pretokenizers", [first])
    if any(part.get("type") == "ByteLevel" and part["use_regex"] for part in parts):
        return GPT2 if len(parts) == 1 else ""
    patterns = [part["pattern"].get("Regex") for part in parts if part.get("type") == "Split"]
    return str(patterns[0]) if len(patterns) == 1 else ""


def _tensors(
    base: Base, tensors: Mapping[str, LazyTensor], form: Form
) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors by their published names, in the form that llama.cpp computes with."""
    tower: Any = base.config.towers["main"]
    attention, positions = tower.layers[0].block.attention, tower.positions
    heads = {"q_proj": attention.heads, "k_proj": attention.kv_heads}
    for name, lazy in tensors.items():
        if base.origin is not None and name in base.origin.unused_tensors:
            continue
        *_, module, leaf = name.split(".")
        tensor = lazy.make()
        if form.paired and module in heads:  # llama.cpp rotates neighbouring numbers, not halves
            halves = tensor.reshape(heads[module], 2, -1, *tensor.shape[1:])
            tensor = halves.transpose(1, 2).reshape(tensor.shape)
        yield name, tensor.T if module in form.transposed and leaf == "weight" else tensor
    if getattr(positions, "scaling", None) is not None:
        unscaled, dim = RotaryConfig(theta=positions.theta), attention.head_dim
        yield "rope_freqs.weight", unscaled.frequencies(dim) / positions.frequencies(dim)
