"""`import --check`: every family beside transformers, and a wrong number found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from broadbase.model.base import Base
from broadbase.weights import check
from broadbase.weights.check import BAR, differences
from references import BEIT, DECODERS, ENCODERS, LLAVA, MEETING, PAIRED, VISION, saved, whisper

FAMILIES: dict[str, Callable[[], Any]] = {
    **DECODERS,
    **ENCODERS,
    **PAIRED,
    **VISION,
    **MEETING,
    **BEIT,
    **LLAVA,
    "whisper": whisper,
}


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
    read = check._reference

    def changed(base: Base, folder: Path) -> Any:
        tensors[tensor][0] += 1
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return read(base, folder)

    monkeypatch.setattr(check, "_reference", changed)
    assert max(row["difference"] for row in differences(tmp_path)) > BAR
