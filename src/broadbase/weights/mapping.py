"""What a mapping is: a published config read as ours, and one table of names for both ways.

A table says where a module of ours, or a single tensor, lies in a published file. A `*` stands for
the number of a layer or an expert. The same table reads and writes, so a tensor that came in leaves
with the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Protocol

from torch import Tensor

from broadbase.core.errors import ConfigError
from broadbase.core.plugins import modules
from broadbase.model.model import ModelConfig
from broadbase.weights.field_types import errors_of
from broadbase.weights.tensors import Piece, empty


@dataclass(frozen=True)
class TensorRule:
    """Where a module's weight and bias, or one tensor, lie in a published file.

    Of a file's tensor of `shape`, seen as `view`, the axes are brought into the order `axes`; what
    then are rows `part` is ours, `step` further for each number that our name ends with (of an
    expert). A bias has rows alone.
    """

    name: str
    axes: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None  # None: as ours says
    view: tuple[int, ...] | None = None  # None: as `shape`
    part: tuple[int, int] | None = None
    step: int = 0


Table = Mapping[str, TensorRule | str]


def with_prefix(prefix: str, table: Table) -> dict[str, TensorRule | str]:
    """The same table for a file where all of it lies under `prefix`."""
    return {
        ours: replace(at, name=prefix + at.name) if isinstance(at, TensorRule) else prefix + at
        for ours, at in table.items()
    }


@dataclass(frozen=True)
class TensorLink:
    """One tensor of ours, and where it lies among theirs."""

    ours: str
    theirs: str
    size: tuple[int, ...]  # of ours
    at: TensorRule

    def piece(self, name: str) -> Piece:
        """What it is of the stored tensor `name`: rows as they lie, unless axes change places."""
        if self.at.axes:
            return Piece(name, self.size, view=self.read)
        start = self.at.part[0] if self.at.part else 0
        return Piece(name, self.size, start * prod(self.size[1:]))

    def read(self, tensor: Tensor) -> Tensor:
        """Theirs as ours."""
        at = self.at
        if at.view or at.shape:
            tensor = tensor.reshape(at.view or at.shape)  # type: ignore[arg-type]
        tensor = tensor.permute(at.axes) if at.axes else tensor
        if at.part is None:
            return tensor.reshape(self.size)
        return _rows(tensor, *at.part, self.size[1:]).reshape(self.size)


def _rows(tensor: Tensor, start: int, stop: int, row: tuple[int, ...]) -> Tensor:
    """Rows `start` to `stop` of a tensor seen as rows of shape `row`, in its memory."""
    while tensor.shape[1:] != row:
        rows = prod(tensor.shape[1:]) // prod(row)  # in each part along the first axis
        part = start // rows
        if stop > (part + 1) * rows:
            return tensor.view(-1, *row)[start:stop]
        tensor, start, stop = tensor[part], start - part * rows, stop - part * rows
    return tensor[start:stop]


def shape(links: Collection[TensorLink]) -> tuple[int, ...]:
    """Of the published tensor that holds all of `links`."""
    first = next(iter(links))
    if first.at.shape is not None:
        return first.at.shape
    size = _size(links)
    axes = first.at.axes or range(len(size))
    return tuple(size[list(axes).index(i)] for i in range(len(size)))


def write(links: Collection[TensorLink], state: Mapping[str, Tensor]) -> Tensor:
    """The published tensor that holds all of `links`, contiguous."""
    first = next(iter(links))
    at, ours = first.at, state[first.ours]
    if at.part is None and at.axes is None:
        return ours.reshape(shape(links)).contiguous()
    whole = empty(shape(links), ours.dtype)
    seen = whole.view(at.view or at.shape or whole.shape)
    seen = seen.permute(at.axes) if at.axes else seen
    for link in links:
        part = seen if link.at.part is None else _rows(seen, *link.at.part, link.size[1:])
        part.copy_(state[link.ours].reshape(part.shape))
    return whole


def _size(links: Collection[TensorLink]) -> tuple[int, ...]:
    first = next(iter(links))
    if first.at.part is None:
        return first.size
    parts = sorted(link.at.part or (0, 0) for link in links)
    stops = [0, *(stop for _, stop in parts)]
    assert all(start == stop for (start, _), stop in zip(parts, stops, strict=False)), parts
    return (stops[-1], *first.size[1:])


@dataclass(frozen=True)
class ImportedModel:
    """What a config.json says, in our terms."""

    config: ModelConfig
    pattern: str
    table: Table
    prefix: str = ""  # of all names but heads'; files of the bare backbone lack it
    spellings: Mapping[str, str] = field(default_factory=dict)  # other names: regex, replacement
    copies: Mapping[str, str] = field(
        default_factory=dict
    )  # another name of theirs -> the one it repeats
    derived: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)  # regex -> its value
    patterns: Mapping[str, str] = field(default_factory=dict)  # of towers that see otherwise
    codecs: tuple[str, ...] = ()  # of the Spaces that records come in; none named: all
    fresh: str = r".*\.mask"  # regex of ours that stay at their init: no decoder has hidden places
    kept: str = ""  # regex of what the published model has for uses that ours has not

    def links(self, model: ModelConfig, state: Mapping[str, Tensor]) -> tuple[TensorLink, ...]:
        """All tensors in the `state` of a `model` that the table names, in order; its Space may
        have another name."""
        ours, theirs = next(iter(model.modalities)), next(iter(self.config.modalities))
        found = []
        for name, tensor in state.items():
            known = name.replace(f"spaces.{ours}.", f"spaces.{theirs}.", 1)
            at = _find(self.table, known)
            if at is not None:
                found.append(TensorLink(name, at.name, tuple(tensor.shape), at))
        return tuple(found)

    def canonical(self, names: Iterable[str]) -> dict[str, str]:
        """Each name in a file, and the name that the table has for it."""
        names = list(names)
        bare = not any(name.startswith(self.prefix) for name in names)
        found = {}
        for name in names:
            known = self.prefix + name if bare else name
            for other, usual in self.spellings.items():
                known = re.sub(other, usual, known)
            found[name] = known
        for copy, whole in self.copies.items():  # of tied tensors a file may hold any one
            if whole not in found.values():
                found = {name: whole if known == copy else known for name, known in found.items()}
        return found


def _find(table: Table, name: str) -> TensorRule | None:
    """The entry of a tensor, or of the module that it is the weight or bias of."""
    numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
    general = re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
    module, _, leaf = general.rpartition(".")
    entry, suffix = table.get(general), ""
    if entry is None:
        entry, suffix = table.get(module), f".{leaf}"
    if entry is None:
        return None
    at = entry if isinstance(entry, TensorRule) else TensorRule(entry)
    for number in numbers:
        at = replace(at, name=at.name.replace("*", number, 1))
    if at.part and at.step:
        first = at.step * int(numbers[-1])
        at = replace(at, part=(first + at.part[0], first + at.part[1]))
    if suffix == ".bias":
        return TensorRule(at.name + suffix, part=at.part)
    return replace(at, name=at.name + suffix)


class Architecture(Protocol):
    """A module of this package with a model_type and this function."""

    MODEL_TYPE: str

    def read(self, config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
        """A config in our terms; `names` are those of the tensors, which say whether there is a
        head."""
        ...


def known_families() -> dict[str, Any]:
    """Every module here that has a MODEL_TYPE, by it."""
    families = modules("broadbase.weights.families")
    return {module.MODEL_TYPE: module for module in families if hasattr(module, "MODEL_TYPE")}


def imported(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """A config.json in our terms; ConfigError where nobody wrote its mapping, DataError where a
    field is missing or has no meaning."""
    known, kind = known_families(), config.get("model_type")
    if not isinstance(kind, str) or kind not in known:
        raise ConfigError(f"model_type {kind!r} is not known here; known: {', '.join(known)}")
    with errors_of(f"config.json of a {kind}"):
        found: ImportedModel = known[kind].read(config, names)
    return found
