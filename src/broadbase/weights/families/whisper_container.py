"""Whisper in a CTranslate2 container: its sizes, and its variables under the published names.

The sizes follow from the variables; the ids of start and end are those of the tokenizer. Queries,
keys and values are one variable, whose rows are taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from broadbase.core.errors import DataError
from broadbase.core.files import read_json
from broadbase.weights.ctranslate2 import Container
from broadbase.weights.families.encdec import SIDES
from broadbase.weights.tensors import FLOATS, Stored, readable

CONTAINER = "WhisperSpec"
START, END = "<|startoftranscript|>", "<|endoftext|>"
NAME = re.compile(r"(encoder|decoder)/(?:layer_(\d{1,4})/)?(\w+|\w+/\w+)/(\w+)")
OUTER = {
    "conv1": ("conv1",),
    "conv2": ("conv2",),
    "embeddings": ("embed_tokens",),
    "position_encodings": ("embed_positions",),
    "layer_norm": ("layer_norm",),
}
LAYER = {
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
LEAVES["encodings"] = "weight"
TIED, PROJECTION = "decoder/embeddings/weight", "decoder/projection/weight"
GELU = 3
SETTINGS = {"decoder/activation": GELU, "encoder/activation": GELU, "decoder/pre_norm": 1}
FREE = re.compile(r"(encoder|decoder)/num_heads|decoder/alignment_\w+")


def read(container: Container) -> tuple[dict[str, Any], dict[str, Stored]]:
    """Return the config.json of a container, and its tensors by their published names."""
    for name, value in container.settings.items():
        if not FREE.fullmatch(name) and value != SETTINGS.get(name, 0):
            raise DataError(
                f"{container.file}: {name} is {value:g}, and of a Whisper {SETTINGS.get(name, 0)};"
                " convert the published model again"
            )
    tensors: dict[str, Stored] = {}
    for name, stored in container.stored.items():
        if stored.dtype_name not in FLOATS:
            raise DataError(
                f"{container.file} is quantized: {name!r} holds {stored.dtype_name} numbers;"
                " convert the published model again, with --quantization float16"
            )
        if name != PROJECTION:
            tensors.update(_published(container, name, stored))
        elif stored != container.stored.get(TIED):
            tensors["proj_out.weight"] = stored
    return _config(container), tensors


def _published(container: Container, name: str, stored: Stored) -> Iterator[tuple[str, Stored]]:
    """Yield the published tensors that a variable holds."""
    match = NAME.fullmatch(name)
    side, number, module, leaf = match.groups() if match else ("", None, "", "")
    parts = (OUTER if number is None else LAYER).get(module)
    if parts is None or leaf not in LEAVES:
        raise DataError(f"{container.file}: nothing here uses {name!r}; copy it again")
    layer = "" if number is None else f"layers.{int(number)}."
    for part, piece in zip(parts, _rows(stored, len(parts)), strict=True):
        if part.endswith("k_proj") and leaf == "bias":  # Whisper has none: zeros, made to fuse
            with readable(container.file):
                if piece.mapped().any():
                    raise DataError(
                        f"{container.file}: {name!r} shifts keys, which a Whisper does not do;"
                        " convert the published model again"
                    )
        else:
            yield f"model.{side}.{layer}{part}.{LEAVES[leaf]}", piece


def _rows(stored: Stored, parts: int) -> list[Stored]:
    """Return a tensor's rows in so many equal parts; DataError if they cannot be divided."""
    count, rest = divmod(stored.shape[0], parts)
    if rest:
        raise DataError(
            f"{stored.file}: {stored.shape[0]} rows are not {parts} parts; copy it again"
        )
    shape, size = (count, *stored.shape[1:]), stored.size // parts
    return [replace(stored, shape=shape, start=stored.start + i * size) for i in range(parts)]


def _config(container: Container) -> dict[str, Any]:
    """Return the config.json that the published model has."""
    start, end = _ids(container)
    mels = container.shape("encoder/conv1/weight", 3)[1]
    words, width = container.shape(TIED, 2)
    sizes: dict[str, Any] = {}
    lengths = ("max_source_positions", "max_target_positions")
    for side, length in zip(SIDES, lengths, strict=True):
        layers = {m[2] for name in container.stored if (m := NAME.fullmatch(name)) and m[1] == side}
        sizes[f"{side}_layers"] = len(layers - {None})
        sizes[f"{side}_attention_heads"] = int(
            container.settings.get(f"{side}/num_heads", width // 64)
        )
        sizes[f"{side}_ffn_dim"] = container.shape(f"{side}/layer_0/ffn/linear_0/weight", 2)[0]
        sizes[length] = container.shape(f"{side}/position_encodings/encodings", 2)[0]
    return {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "dtype": "float32",
        "activation_function": "gelu",
        "d_model": width,
        "vocab_size": words,
        "num_mel_bins": mels,
        **sizes,
        "decoder_start_token_id": start,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "scale_embedding": False,
        "tie_word_embeddings": True,
    }


def _ids(container: Container) -> tuple[int, int]:
    """Return the ids of start and end in the tokenizer.json next to the container."""
    file = container.file.with_name("tokenizer.json")
    added = read_json(file, "copy that of the published model").get("added_tokens")
    ids = {}
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and isinstance(token.get("id"), int):
            ids[token.get("content")] = token["id"]
    if not ids.keys() >= {START, END}:
        raise DataError(f"{file} has no {START} and {END}; copy that of the published model")
    return ids[START], ids[END]
