"""A base and its reference of transformers: what both read, and how near they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from broadbase.core.view import Segment, positions
from broadbase.inference.base import Base
from broadbase.inference.documents import prompts
from broadbase.weights.folder import load
from support.references import VOCABULARY

POSITIONS, PAD = 24, 1

Pair = tuple[Any, Base, Path]


def ids(rows: int = 3, length: int = POSITIONS) -> Tensor:
    return torch.randint(4, VOCABULARY, (rows, length), generator=torch.manual_seed(1))


def segment(values: Tensor, **more: Any) -> Segment:
    place = positions((values.shape[1],)).expand(len(values), -1, -1)
    return Segment("text", values, place, **more)


def close(ours: Tensor, expected: Tensor, bar: float = 1e-5) -> bool:
    assert ours.shape == expected.shape
    return bool((expected - ours).abs().max() <= bar * max(1.0, float(expected.abs().max())))


def gradients(reference: Any, base: Base, folder: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Ours and theirs: a saved model whose weights are gradients is read as any model is."""
    with torch.no_grad():
        for parameter in reference.parameters():
            grad = parameter.grad
            parameter.data = torch.zeros_like(parameter) if grad is None else grad
    reference.save_pretrained(folder / "gradients")
    expected = load(folder / "gradients").model.state_dict()
    for name, parameter in base.model.named_parameters():
        if parameter.grad is not None and not name.endswith(".mask"):
            yield name, parameter.grad, expected[name]


ROWS, SIZE = 3, 20


def pixels() -> Tensor:
    """Numbers as references take them: [B,3,H,W], normalised."""
    return torch.randn(ROWS, 3, SIZE, SIZE, generator=torch.manual_seed(2))


def pictures(base: Base) -> Segment:
    """The same pictures through our codec."""
    config: Any = base.config.modalities["image"]
    normal = pixels().permute(0, 2, 3, 1).double().numpy()
    raws = [one * config.deviation + config.mean for one in normal]
    return prompts("image", base.codecs["image"], raws)


def pictures_raw() -> Any:
    return torch.rand(SIZE, SIZE, 3, generator=torch.manual_seed(4)).numpy()
