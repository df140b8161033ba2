"""`import --check`: every family beside transformers, and a wrong number found."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from broadbase.inference.base import Base
from broadbase.weights import parity
from broadbase.weights.folder import load
from broadbase.weights.parity import BAR, differences
from support.references import (
    FAMILIES,
    saved,
)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_compared(name: str, tmp_path: Path) -> None:
    saved(FAMILIES[name], tmp_path)
    rows = differences(tmp_path)
    assert rows
    for row in rows:
        assert 0 <= row["difference"] < 1e-5, row


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("bert", "bert.encoder.layer.1.output.dense.bias"),
        ("clip", "text_model.final_layer_norm.bias"),
        ("dinov2", "encoder.layer.1.mlp.fc2.bias"),
        ("llava", "multi_modal_projector.linear_2.bias"),
        ("whisper", "model.decoder.layers.0.fc1.bias"),
    ],
)
def test_a_wrong_conversion_is_seen(
    name: str, tensor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours from the folder, the reference from the same with one bias changed."""
    saved(FAMILIES[name], tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    read = parity.reference_of

    def changed(base: Base, folder: Path) -> Any:
        tensors[tensor][0] += 1
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return read(base, folder)

    monkeypatch.setattr(parity, "reference_of", changed)
    assert max(row["difference"] for row in differences(tmp_path)) > BAR


@pytest.mark.parametrize("name", ["llama biased", "llava", "clip"])
@pytest.mark.parametrize(
    "wish",
    [
        {"attn_implementation": "kernels-community/flash-attn2"},
        {"_attn_implementation": "kernels-community/flash-attn2"},
        {"experts_implementation": "kernels-community/megablocks", "use_kernels": True},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        {"auto_map": {"AutoModel": "theirs.Model"}, "dtype": "x", "torch_dtype": 5},
        {"architectures": ["pipeline"]},
        {"architectures": [], "return_dict": False, "name_or_path": "somebody/model"},
    ],
)
def test_a_folder_chooses_no_code(
    name: str, wish: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the class that it is compared with, nor how that computes; nothing is fetched."""
    saved(FAMILIES[name], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    nested = {part: {**config[part], **wish} for part in config if part.endswith("_config")}
    (tmp_path / "config.json").write_text(json.dumps({**config, **nested, **wish}))
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/model"}')
    (tmp_path / "theirs.py").write_text("raise SystemExit('it ran')")

    def connect(*_: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(socket.socket, "connect", connect)
    base = load(tmp_path)
    reference = parity.reference_of(base, tmp_path)
    parts = [reference.config, *(getattr(reference.config, part) for part in nested)]
    assert {part._attn_implementation for part in parts} == {"eager"}
    assert all(row["equal"] for row in differences(tmp_path))


def test_what_is_no_number_is_not_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(FAMILIES["bert"], tmp_path)
    nothing = torch.full((1,), torch.nan)
    monkeypatch.setattr(parity, "_compared", lambda *_: [("unpadded", "logits", nothing, nothing)])
    assert [row["equal"] for row in differences(tmp_path)] == [False]
