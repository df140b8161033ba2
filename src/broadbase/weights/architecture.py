"""What a mapping is: a published config read as ours, and the names of its tensors."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from broadbase import weights
from broadbase.core.errors import ConfigError, DataError
from broadbase.model.model import ModelConfig


@dataclass(frozen=True)
class Link:
    """One tensor of ours and where it lies among theirs."""

    ours: str
    theirs: str
    transposed: bool = False  # GPT-2 keeps its matrices as [in, out]
    part: tuple[int, int] | None = None  # rows of a fused tensor, after transposing


@dataclass(frozen=True)
class Published:
    """What a config.json says, in our terms."""

    config: ModelConfig
    pattern: str
    links: tuple[Link, ...]
    prefix: str = ""  # of all names but heads'; files of the bare backbone lack it
    ignored: str = ""  # regex of tensors that have no part in our forward


class Architecture(Protocol):
    """A module of this package with a model_type and these two functions."""

    MODEL_TYPE: str

    def read(self, config: Mapping[str, Any]) -> Published: ...


def architectures() -> dict[str, Any]:
    """Every module here that has a MODEL_TYPE, by it."""
    names = [m.name for m in pkgutil.iter_modules(weights.__path__, "broadbase.weights.")]
    modules = [importlib.import_module(name) for name in names]
    return {module.MODEL_TYPE: module for module in modules if hasattr(module, "MODEL_TYPE")}


def published(config: Mapping[str, Any]) -> Published:
    """A config.json in our terms; ConfigError where nobody wrote its mapping."""
    known, kind = architectures(), config.get("model_type")
    if kind not in known:
        raise ConfigError(f"model_type {kind!r} is not known here; known: {', '.join(known)}")
    found: Published = known[str(kind)].read(config)
    return found


def translate(source: Published, theirs: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    """Their tensors under our names; DataError names every tensor missing or left over."""
    if not any(name.startswith(source.prefix) for name in theirs):
        theirs = {source.prefix + name: tensor for name, tensor in theirs.items()}
    ours, used = {}, set()
    for link in source.links:
        if link.theirs not in theirs:
            raise DataError(f"{place} has no tensor {link.theirs!r} (for {link.ours!r})")
        tensor = theirs[link.theirs]
        tensor = tensor.T if link.transposed else tensor
        ours[link.ours] = tensor if link.part is None else tensor[slice(*link.part)]
        used.add(link.theirs)
    left = [n for n in theirs if n not in used and not re.fullmatch(source.ignored, n)]
    if left:
        raise DataError(f"{place} has tensors that nothing here uses: {', '.join(left[:5])}")
    return ours


def only(config: Mapping[str, Any], **allowed: Any) -> None:
    """Refuse a config whose field has an effect that we do not have: ConfigError names it."""
    for field, values in allowed.items():
        if field in config and config[field] not in values:
            raise ConfigError(
                f"config.json: {field}={config[field]!r} is not supported, only"
                f" {' or '.join(repr(v) for v in values)}"
            )


def linears(ours: str, theirs: str, bias: bool, **how: Any) -> Iterator[Link]:
    """A linear map's weight and, where there is one, its bias."""
    yield Link(f"{ours}.weight", f"{theirs}.weight", **how)
    if bias:
        yield Link(f"{ours}.bias", f"{theirs}.bias", part=how.get("part"))
