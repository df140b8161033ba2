"""Tensors of a published folder to ours and back, by the table of its architecture."""

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
    """Ours, as the `state` of the model has them, and theirs that are only kept.

    DataError names every tensor that is missing, left over, of another shape or not what it should
    be.
    """
    known = source.canonical(names)
    sources = {canonical: name for name, canonical in known.items()}
    links = grouped(source, model, state)
    _check(source, links, sources, tensors)
    ours = {link.ours: link.piece(sources[name]) for name, group in links.items() for link in group}
    kept = {}
    for name, canonical in known.items():
        if canonical in source.copies and canonical not in links:
            whole = source.copies[canonical]
            if not tensors.same(sources[whole], name):
                raise DataError(
                    f"{tensors.folder}: {name!r} is not the same as {whole!r}, which config.json"
                    " ties it to"
                )
        elif canonical not in links:
            kept[name] = tensors.whole(name)
    found = tensors.read(ours), tensors.read(kept)
    for name, tensor in found[1].items():
        for pattern, value in source.derived.items():
            if re.fullmatch(pattern, known[name]) and not alike(value(), tensor):
                raise DataError(f"{tensors.folder}: {name!r} is not what it is derived from")
    return found


def written(
    source: ImportedModel,
    model: ModelConfig,
    state: Mapping[str, Tensor],
    names: Iterable[str],
    kept: Mapping[str, Tensor],
) -> tuple[dict[str, LazyTensor], dict[str, LazyTensor]]:
    """Tensors under the published `names`, and those of ours that the layout has no place for."""
    links = grouped(source, model, state)
    theirs = {}
    for name, canonical in source.canonical(names).items():
        if name in kept:
            theirs[name] = LazyTensor.of(kept[name])
        else:
            group = links[source.copies.get(canonical, canonical)]
            size = sum(state[link.ours].nbytes for link in group)
            theirs[name] = LazyTensor(size, partial(write, group, state))
    placed = {link.ours for group in links.values() for link in group}
    return theirs, {name: LazyTensor.of(each) for name, each in state.items() if name not in placed}


def grouped(
    source: ImportedModel, model: ModelConfig, state: Mapping[str, Tensor]
) -> dict[str, list[TensorLink]]:
    """Links by the name of theirs."""
    found: dict[str, list[TensorLink]] = defaultdict(list)
    for link in source.links(model, state):
        found[link.theirs].append(link)
    return dict(found)


def _check(
    source: ImportedModel,
    links: Mapping[str, list[TensorLink]],
    sources: Mapping[str, str],
    tensors: Tensors,
) -> None:
    place = tensors.folder
    missing = [name for name in links if name not in sources]
    if missing:
        raise DataError(f"{place} lacks tensors: {_some(missing)}")
    spare = re.compile("|".join([source.kept or "(?!)", *source.derived]))
    left = [
        name
        for canonical, name in sources.items()
        if canonical not in links
        and canonical not in source.copies
        and not spare.fullmatch(canonical)
    ]
    if left:
        raise DataError(f"{place} has tensors that nothing here uses: {_some(left)}")
    for name, group in links.items():
        stored, wanted = tensors.stored[sources[name]], shape(group)
        if stored.shape != wanted:
            raise DataError(
                f"{stored.file}: {sources[name]!r} is {list(stored.shape)}, and by config.json"
                f" {list(wanted)}"
            )
        if stored.word not in FLOATS:
            raise DataError(
                f"{stored.file}: {sources[name]!r} holds {stored.word} numbers; only"
                f" {', '.join(sorted(FLOATS))} can be read"
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
