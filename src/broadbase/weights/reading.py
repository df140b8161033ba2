"""Model folders read: what lies in them checked, then a model built and filled, then its codecs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.files import MOST, read_json
from broadbase.core.usage import Usage
from broadbase.inference.base import Base, Origin
from broadbase.inference.usages import plain_usage
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from broadbase.model.structure import structure_only
from broadbase.weights import convert
from broadbase.weights.ctranslate2 import FILE, ContainerTensors, is_container, read_container
from broadbase.weights.field_types import bound, check, errors_of
from broadbase.weights.fold_norm import unfolded, without_norm
from broadbase.weights.mapping import ImportedModel, containers_by_spec
from broadbase.weights.mask_token import unmasked, with_mask
from broadbase.weights.native import NativeModel
from broadbase.weights.special_tokens import spoken
from broadbase.weights.tensors import OURS, Piece, Tensors

COMPANIONS = (  # files of a published folder that are kept with its weights
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def opened(folder: Path) -> tuple[dict[str, Any], Tensors]:
    """Return config.json and the tensors of a folder, whose files are checked.

    A container has its family's: ConfigError if it is of a kind that none of them reads.
    """
    if not is_container(folder):
        config = read_json(folder / "config.json", "is this a model folder?")
        check_files(folder)
        return config, Tensors(folder)
    check_files(folder)
    container = read_container(folder / FILE)
    if container.spec not in (families := containers_by_spec()):
        raise ConfigError(
            f"{container.file}: spec {container.spec!r} is not supported; use a container of"
            f" {', '.join(families)}"
        )
    config, stored = families[container.spec].read(container)
    return config, ContainerTensors(folder, stored)


def trained_here(config: Mapping[str, Any], own: NativeModel, tensors: Tensors) -> Base:
    """Return a base that was trained here, without codecs; tensors may have a family's names."""
    names, rest = _apart(tensors)
    model = _blank(own.model)
    if config["model_type"] == "broadbase":
        state = tensors.read({name: tensors.piece(name) for name in names})
    else:
        source, _ = _source(config, names, tensors)
        unnormed = (own.folded and without_norm(own.model)) or own.model
        leaving = (own.masked and with_mask(unnormed)) or unnormed
        wanted = _blank(leaving).state_dict()
        state, _ = convert.read(source, leaving, wanted, tensors, names)
        state = state if leaving is unnormed else unmasked(unnormed, state)
        state = state if unnormed is own.model else unfolded(own.model, state)
    _fill(model, state | tensors.read(rest), str(tensors.folder), "(?!)")
    codecs: dict[str, Any] = dict.fromkeys(own.codecs)
    return Base(own.model, model.eval(), codecs, own.usage)


def published(config: Mapping[str, Any], tensors: Tensors) -> Base:
    """Return a published model as a base without codecs."""
    names, rest = _apart(tensors)
    source, companions = _source(config, names, tensors)
    model = _blank(source.config)
    state, kept = convert.read(source, source.config, model.state_dict(), tensors, names)
    _fill(model, state | tensors.read(rest), str(tensors.folder), source.fresh)
    files = {name: tensors.file_of(name) for name in names}
    origin = Origin(config, files, kept, companions)
    codecs: dict[str, Any] = dict.fromkeys(source.codecs)
    return Base(
        source.config, model.eval(), codecs, plain_usage(source.pattern, source.patterns), origin
    )


def settings(config: Mapping[str, Any], tensors: Tensors) -> tuple[ModelConfig, Usage]:
    """Return the settings of a published model and its usage."""
    source, _ = _source(config, _apart(tensors)[0], tensors)
    return source.config, plain_usage(source.pattern, source.patterns)


def with_codecs(base: Base, folder: Path) -> Base:
    """Return a base with the codecs of a folder; DataError if one cannot be read."""
    codecs = {}
    for name in base.codecs or base.config.modalities:
        path = folder / "codecs" / name
        path = path if base.origin is None and path.exists() else folder
        with errors_of(f"{path}: the files of {name!r} cannot be read"), _tokenizers():
            codecs[name] = base.config.modalities[name].load(path)
    return replace(base, codecs=codecs)


def _source(
    config: Mapping[str, Any], names: list[str], tensors: Tensors
) -> tuple[ImportedModel, dict[str, bytes]]:
    """Return the model of a family's config.json, whose fields are checked, and the other files."""
    check(config)
    bound(config, [tensors.stored[name].shape for name in names])
    companions = _companions(tensors.folder)
    return spoken(config, names, companions), companions


def _apart(tensors: Tensors) -> tuple[list[str], dict[str, Piece]]:
    """Return the names of a layout's tensors, and the tensors in the file for those without one."""
    rest = {n: tensors.piece(n) for n, stored in tensors.stored.items() if stored.file.name == OURS}
    return [name for name in tensors.stored if name not in rest], rest


def check_files(folder: Path) -> None:
    """Check that a folder has only files of an allowed size; DataError names the first other."""
    for item in [*folder.iterdir(), *(folder / "codecs").rglob("*")]:
        if item.exists() and not item.is_file() and (item.name in COMPANIONS or not item.is_dir()):
            raise DataError(f"{item} is not a file; remove it")
        if item.name in COMPANIONS and item.exists() and item.stat().st_size > MOST:
            raise DataError(f"{item} has more than {MOST} bytes; copy it again")


@contextmanager
def _tokenizers() -> Iterator[None]:
    """Raise errors of the tokenizers library, which have no class of their own, as ValueErrors."""
    try:
        yield
    except BaseException as error:
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise ValueError(str(error)) from None
        raise


def _blank(config: ModelConfig) -> Model:
    """Return the model without numbers, on the meta device."""
    with structure_only():
        return config.build()


def _fill(model: Model, state: Mapping[str, Tensor], where: str, fresh: str) -> None:
    """Give the model these tensors; those whose names match the regex `fresh` may be missing."""
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in state]
    wrong = [name for name in missing if not re.fullmatch(fresh, name)]
    wrong += [name for name in state if name not in wanted]
    if wrong:
        raise DataError(f"{where}: tensors missing or unknown: {', '.join(wrong[:5])}")
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise DataError(
                f"{where}: {name!r} is {list(tensor.shape)}, and by config.json"
                f" {list(wanted[name].shape)}"
            )
        if tensor.numel() and not all(bound.isfinite() for bound in torch.aminmax(tensor)):
            raise DataError(
                f"{where}: {name!r} holds numbers that are not finite (NaN or infinity); copy it"
                " again, or go back to an earlier version"
            )
    kind = next(iter(state.values())).dtype
    new = {name: torch.empty(wanted[name].shape, dtype=kind) for name in missing}
    model.load_state_dict({**state, **new}, assign=True)
    initialise(model, 0, missing)


def _companions(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in COMPANIONS if (folder / name).exists()}
