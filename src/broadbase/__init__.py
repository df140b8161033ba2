"""Broadbase: one foundation model, pretrained on whatever data you have, adapted many times."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broadbase.adapt.adapted import Adapted, load_adapted
    from broadbase.inference.autoregressive import SamplingConfig
    from broadbase.inference.base import Base
    from broadbase.inference.request import GenerateRequest, Prompt
    from broadbase.weights.folder import load

__all__ = [
    "Adapted",
    "Base",
    "GenerateRequest",
    "Prompt",
    "SamplingConfig",
    "__version__",
    "load",
    "load_adapted",
]

_LAZY = {  # imported when they are first used: `import broadbase` loads no torch
    "Adapted": "broadbase.adapt.adapted",
    "Base": "broadbase.inference.base",
    "GenerateRequest": "broadbase.inference.request",
    "Prompt": "broadbase.inference.request",
    "SamplingConfig": "broadbase.inference.autoregressive",
    "load": "broadbase.weights.folder",
    "load_adapted": "broadbase.adapt.adapted",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("broadbase")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
