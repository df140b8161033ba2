"""Tensors of a published folder to those of a model and back, by the table of its family."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial

from torch import Tensor

from broadbase.core.errors import DataError
from broadbase.model.model import ModelConfig
from broadbase.weights.mapping import ImportedModel, TensorLink, shape, write
from broadbase.weights.shards import LazyTensor
from broadbase.weights.tensors import FLOATS, Tensors, alike


def read(
    source: ImportedModel,
    model: ModelConfig,
    state: Mapping[str, Tensor],
    tensors: Tensors,
    names: Iterable[str],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of the model's `state`, and those that are only kept, by their names.

    DataError names every tensor that is missing, left over, of another shape or not equal to what
    it repeats or is derived from.
    """
    canonical_names = source.canonical(names)
    sources = {canonical: name for name, canonical in canonical_names.items()}
    links = grouped(source, model, state)
    _check(source, links, sources, tensors)
    pieces = {
        link.name: link.piece(sources[name]) for name, group in links.items() for link in group
    }
    kept = {}
    for name, canonical in canonical_names.items():
        if canonical in source.copies and canonical not in links:
            original = source.copies[canonical]
            if not tensors.same(sources[original], name):
                raise DataError(
                    f"{tensors.folder}: {name!r} is not the same as {original!r}, to which"
                    " config.json ties it; copy the file again"
                )
        elif canonical not in links:
            kept[name] = tensors.piece(name)
    state_tensors, kept_tensors = tensors.read(pieces), tensors.read(kept)
    for name, tensor in kept_tensors.items():
        for pattern, value in source.derived.items():
            if re.fullmatch(pattern, canonical_names[name]) and not alike(value(), tensor):
                raise DataError(
                    f"{tensors.folder}: {name!r} is not what it is derived from; copy it again"
                )
    return state_tensors, kept_tensors


def written(
    source: ImportedModel,
    model: ModelConfig,
    state: Mapping[str, Tensor],
    names: Iterable[str],
    kept: Mapping[str, Tensor],
) -> tuple[dict[str, LazyTensor], dict[str, LazyTensor]]:
    """Return tensors by their published `names`, and those of the model that have no such name."""
    links = grouped(source, model, state)
    published = {}
    for name, canonical in source.canonical(names).items():
        if name in kept:
            published[name] = LazyTensor.of(kept[name])
        else:
            group = links[source.copies.get(canonical, canonical)]
            size = sum(state[link.name].nbytes for link in group)
            published[name] = LazyTensor(size, partial(write, group, state))
    used = {link.name for group in links.values() for link in group}
    rest = {name: LazyTensor.of(tensor) for name, tensor in state.items() if name not in used}
    return published, rest


def grouped(
    source: ImportedModel, model: ModelConfig, state: Mapping[str, Tensor]
) -> dict[str, list[TensorLink]]:
    """Return the links by their published names."""
    groups: dict[str, list[TensorLink]] = defaultdict(list)
    for link in source.links(model, state):
        groups[link.published].append(link)
    return dict(groups)


def _check(
    source: ImportedModel,
    links: Mapping[str, list[TensorLink]],
    sources: Mapping[str, str],
    tensors: Tensors,
) -> None:
    folder = tensors.folder
    missing = [name for name in links if name not in sources]
    if missing:
        raise DataError(f"{folder} lacks tensors: {_some(missing)}; copy the folder again")
    spare = re.compile("|".join([source.kept or "(?!)", *source.derived]))
    left = [
        name
        for canonical, name in sources.items()
        if canonical not in links
        and canonical not in source.copies
        and not spare.fullmatch(canonical)
    ]
    if left:
        raise DataError(
            f"{folder} has tensors that nothing here uses: {_some(left)}; check its model_type"
        )
    for name, group in links.items():
        stored, expected = tensors.stored[sources[name]], shape(group)
        if stored.shape != expected:
            raise DataError(
                f"{stored.file}: {sources[name]!r} is {list(stored.shape)}, and by config.json"
                f" {list(expected)}; copy both files again"
            )
        if stored.dtype_name not in FLOATS:
            raise DataError(
                f"{stored.file}: {sources[name]!r} holds {stored.dtype_name} numbers; convert"
                f" them to one of {', '.join(sorted(FLOATS))}"
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
