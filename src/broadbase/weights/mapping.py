"""Mappings of published families: how a config is read, and one table of names for both directions.

A table gives the published name of a module or of a single tensor. A `*` stands for the number of a
layer or an expert. The same table reads and writes, so an imported tensor is exported with the same
bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Protocol

from torch import Tensor

from broadbase.core.errors import ConfigError
from broadbase.core.plugins import modules, named_modules, plugins
from broadbase.model.model import ModelConfig
from broadbase.weights.field_types import errors_of
from broadbase.weights.tensors import Piece, empty


@dataclass(frozen=True)
class TensorRule:
    """The published tensors of a module's weight and bias, or of one tensor.

    A published tensor of `shape` is viewed as `view`, and its axes are permuted to `axes`. The
    model's tensor is rows `part` of the result, shifted by `step` times the number of the expert.
    For a bias only `part` applies.
    """

    name: str
    axes: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None  # None: follows from the model's tensors
    view: tuple[int, ...] | None = None  # None: as `shape`
    part: tuple[int, int] | None = None
    step: int = 0


Table = Mapping[str, TensorRule | str]


def with_prefix(prefix: str, table: Table) -> dict[str, TensorRule | str]:
    """Return the table with `prefix` before every published name."""
    return {
        name: replace(rule, name=prefix + rule.name)
        if isinstance(rule, TensorRule)
        else prefix + rule
        for name, rule in table.items()
    }


@dataclass(frozen=True)
class TensorLink:
    """One tensor of a model, and the published tensor that contains it."""

    name: str
    published: str
    size: tuple[int, ...]  # of the model's tensor
    rule: TensorRule

    def piece(self, name: str) -> Piece:
        """Return its piece of the stored tensor `name`: rows, or a view if axes are permuted."""
        if self.rule.axes:
            return Piece(name, self.size, view=self.read)
        start = self.rule.part[0] if self.rule.part else 0
        return Piece(name, self.size, start * prod(self.size[1:]))

    def read(self, tensor: Tensor) -> Tensor:
        """Return the model's tensor, a view of the published one."""
        rule = self.rule
        if rule.view or rule.shape:
            tensor = tensor.reshape(rule.view or rule.shape)  # type: ignore[arg-type]
        tensor = tensor.permute(rule.axes) if rule.axes else tensor
        if rule.part is None:
            return tensor.reshape(self.size)
        return _rows(tensor, *rule.part, self.size[1:]).reshape(self.size)


def _rows(tensor: Tensor, start: int, stop: int, row: tuple[int, ...]) -> Tensor:
    """Return rows `start` to `stop` of a tensor viewed as rows of shape `row`, without a copy."""
    while tensor.shape[1:] != row:
        rows = prod(tensor.shape[1:]) // prod(row)  # in each part along the first axis
        part = start // rows
        if stop > (part + 1) * rows:
            return tensor.view(-1, *row)[start:stop]
        tensor, start, stop = tensor[part], start - part * rows, stop - part * rows
    return tensor[start:stop]


def shape(links: Collection[TensorLink]) -> tuple[int, ...]:
    """Return the shape of the published tensor that holds all of `links`."""
    first = next(iter(links))
    if first.rule.shape is not None:
        return first.rule.shape
    size = _size(links)
    axes = first.rule.axes or range(len(size))
    return tuple(size[list(axes).index(i)] for i in range(len(size)))


def write(links: Collection[TensorLink], state: Mapping[str, Tensor]) -> Tensor:
    """Return the published tensor that holds all of `links`, contiguous."""
    first = next(iter(links))
    rule, tensor = first.rule, state[first.name]
    if rule.part is None and rule.axes is None:
        return tensor.reshape(shape(links)).contiguous()
    result = empty(shape(links), tensor.dtype)
    view = result.view(rule.view or rule.shape or result.shape)
    view = view.permute(rule.axes) if rule.axes else view
    for link in links:
        part = view if link.rule.part is None else _rows(view, *link.rule.part, link.size[1:])
        part.copy_(state[link.name].reshape(part.shape))
    return result


def _size(links: Collection[TensorLink]) -> tuple[int, ...]:
    first = next(iter(links))
    if first.rule.part is None:
        return first.size
    parts = sorted(link.rule.part or (0, 0) for link in links)
    stops = [0, *(stop for _, stop in parts)]
    assert all(start == stop for (start, _), stop in zip(parts, stops, strict=False)), parts
    return (stops[-1], *first.size[1:])


@dataclass(frozen=True)
class ImportedModel:
    """A published model: its config in the terms of this library, and the names of its tensors."""

    config: ModelConfig
    pattern: str
    table: Table
    prefix: str = ""  # of all names except heads'; files of the bare backbone lack it
    spellings: Mapping[str, str] = field(default_factory=dict)  # other names: regex, replacement
    copies: Mapping[str, str] = field(
        default_factory=dict
    )  # a published name -> the name whose tensor it repeats
    derived: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)  # regex -> its value
    patterns: Mapping[str, str] = field(
        default_factory=dict
    )  # of towers with another attention pattern
    codecs: tuple[str, ...] = ()  # the modalities that have a codec; empty: all
    fresh: str = r".*\.mask"  # regex of tensors that keep their init: decoders have no mask vector
    kept: str = ""  # regex of published tensors for uses that this library does not have

    def links(self, model: ModelConfig, state: Mapping[str, Tensor]) -> tuple[TensorLink, ...]:
        """Return the tensors in the `state` of a `model` that the table names, in order.

        The first modality of the model may have another name than in `config`.
        """
        space, published = next(iter(model.modalities)), next(iter(self.config.modalities))
        links = []
        for name, tensor in state.items():
            table_name = name.replace(f"spaces.{space}.", f"spaces.{published}.", 1)
            rule = _find(self.table, table_name)
            if rule is not None:
                links.append(TensorLink(name, rule.name, tuple(tensor.shape), rule))
        return tuple(links)

    def canonical(self, names: Iterable[str]) -> dict[str, str]:
        """Return the name in the table of each name in a file."""
        names = list(names)
        bare = not any(name.startswith(self.prefix) for name in names)
        result = {}
        for name in names:
            canonical = self.prefix + name if bare else name
            for other, usual in self.spellings.items():
                canonical = re.sub(other, usual, canonical)
            result[name] = canonical
        for copy, original in self.copies.items():  # a file may hold any one of tied tensors
            if original not in result.values():
                result = {k: original if v == copy else v for k, v in result.items()}
        return result


def _find(table: Table, name: str) -> TensorRule | None:
    """Return the rule of a tensor, or that of the module whose weight or bias it is."""
    numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
    general = re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
    module, _, leaf = general.rpartition(".")
    entry, suffix = table.get(general), ""
    if entry is None:
        entry, suffix = table.get(module), f".{leaf}"
    if entry is None:
        return None
    rule = entry if isinstance(entry, TensorRule) else TensorRule(entry)
    for number in numbers:
        rule = replace(rule, name=rule.name.replace("*", number, 1))
    if rule.part and rule.step:
        first = rule.step * int(numbers[-1])
        rule = replace(rule, part=(first + rule.part[0], first + rule.part[1]))
    if suffix == ".bias":
        return TensorRule(rule.name + suffix, part=rule.part)
    return replace(rule, name=rule.name + suffix)


class Architecture(Protocol):
    """A module of `weights.families`, or one from outside."""

    MODEL_TYPE: str

    def read(self, config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
        """Read a published config.

        `names` are those of the tensors, which show whether there is a head.
        """
        ...


def families_by_type() -> dict[str, Any]:
    """Return the modules of all families by their MODEL_TYPE, also of those from outside.

    An outside family is an entry point `broadbase.families`, or a module that the user names.
    """
    return {module.MODEL_TYPE: module for module in _families() if hasattr(module, "MODEL_TYPE")}


def containers_by_spec() -> dict[str, Any]:
    """Return the modules that read CTranslate2 containers by their CONTAINER, as of families."""
    return {module.CONTAINER: module for module in _families() if hasattr(module, "CONTAINER")}


def _families() -> list[Any]:
    return [*modules("broadbase.weights.families"), *plugins("families"), *named_modules()]


def imported(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a config.json.

    ConfigError if its family has no mapping, DataError if a field is missing or has no meaning.
    """
    modules_by_type, kind = families_by_type(), config.get("model_type")
    if not isinstance(kind, str) or kind not in modules_by_type:
        raise ConfigError(
            f"model_type {kind!r} is not supported; use a model of {', '.join(modules_by_type)}"
        )
    with errors_of(f"config.json of a {kind}"):
        model: ImportedModel = modules_by_type[kind].read(config, names)
    return model
