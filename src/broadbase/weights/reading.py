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

from broadbase.core.errors import DataError
from broadbase.core.files import MOST
from broadbase.inference.base import Base, Origin
from broadbase.inference.usages import plain_usage
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from broadbase.weights import convert
from broadbase.weights.field_types import bound, check, errors_of
from broadbase.weights.fold_norm import unfolded, without_norm
from broadbase.weights.mapping import ImportedModel
from broadbase.weights.mask_token import unmasked, with_mask
from broadbase.weights.native import NativeModel
from broadbase.weights.special_tokens import spoken
from broadbase.weights.tensors import OURS, Piece, Tensors

BESIDE = (  # files of a published folder that travel with its weights
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


def ours(config: Mapping[str, Any], own: NativeModel, tensors: Tensors) -> Base:
    """What was trained here, also where its tensors lie under a family's names; no codecs yet."""
    names, rest = _apart(tensors)
    model = _blank(own.model)
    if config["model_type"] == "broadbase":
        state = tensors.read({name: tensors.whole(name) for name in names})
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


def theirs(config: Mapping[str, Any], tensors: Tensors) -> Base:
    """A published model; no codecs yet."""
    names, rest = _apart(tensors)
    source, beside = _source(config, names, tensors)
    model = _blank(source.config)
    state, kept = convert.read(source, source.config, model.state_dict(), tensors, names)
    _fill(model, state | tensors.read(rest), str(tensors.folder), source.fresh)
    files = {name: tensors.stored[name].file.name for name in names}
    origin = Origin(config, files, kept, beside)
    codecs: dict[str, Any] = dict.fromkeys(source.codecs)
    return Base(
        source.config, model.eval(), codecs, plain_usage(source.pattern, source.patterns), origin
    )


def with_codecs(base: Base, folder: Path) -> Base:
    """A base with the codecs that a folder holds; DataError where one cannot be read."""
    codecs = {}
    for name in base.codecs or base.config.modalities:
        place = folder / "codecs" / name
        place = place if base.origin is None and place.exists() else folder
        with errors_of(f"{place}: the files of {name!r} cannot be read"), _tokenizers():
            codecs[name] = base.config.modalities[name].load(place)
    return replace(base, codecs=codecs)


def _source(
    config: Mapping[str, Any], names: list[str], tensors: Tensors
) -> tuple[ImportedModel, dict[str, bytes]]:
    """What a family's config.json says, its fields looked at first; and the files beside it."""
    check(config)
    bound(config, [tensors.stored[name].shape for name in names])
    beside = _beside(tensors.folder)
    return spoken(config, names, beside), beside


def _apart(tensors: Tensors) -> tuple[list[str], dict[str, Piece]]:
    """The tensors under a layout's names, and those in a file of ours that it has no place for."""
    rest = {n: tensors.whole(n) for n, stored in tensors.stored.items() if stored.file.name == OURS}
    return [name for name in tensors.stored if name not in rest], rest


def look(folder: Path) -> None:
    """DataError where something in a folder is no file that can be read whole."""
    for item in [*folder.iterdir(), *(folder / "codecs").rglob("*")]:
        if item.exists() and not item.is_file() and (item.name in BESIDE or not item.is_dir()):
            raise DataError(f"{item} is not a file; remove it")
        if item.name in BESIDE and item.exists() and item.stat().st_size > MOST:
            raise DataError(f"{item} has more than {MOST} bytes; copy it again")


@contextmanager
def _tokenizers() -> Iterator[None]:
    """Errors of the tokenizers library, which are of no class of their own, as ValueErrors."""
    try:
        yield
    except BaseException as error:
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise ValueError(str(error)) from None
        raise


def _blank(config: ModelConfig) -> Model:
    """The model without any numbers."""
    with torch.device("meta"):
        return config.build()


def _fill(model: Model, state: Mapping[str, Tensor], place: str, fresh: str) -> None:
    """Make these tensors the model's own; those that `fresh` (a regex) allows may lack."""
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in state]
    wrong = [name for name in missing if not re.fullmatch(fresh, name)]
    wrong += [name for name in state if name not in wanted]
    if wrong:
        raise DataError(f"{place}: tensors missing or unknown: {', '.join(wrong[:5])}")
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise DataError(
                f"{place}: {name!r} is {list(tensor.shape)}, and by config.json"
                f" {list(wanted[name].shape)}"
            )
        if tensor.numel() and not all(bound.isfinite() for bound in torch.aminmax(tensor)):
            raise DataError(
                f"{place}: {name!r} holds numbers that are not finite (NaN or infinity); copy it"
                " again, or go back to an earlier version"
            )
    kind = next(iter(state.values())).dtype
    new = {name: torch.empty(wanted[name].shape, dtype=kind) for name in missing}
    model.load_state_dict({**state, **new}, assign=True)
    initialise(model, 0, missing)


def _beside(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in BESIDE if (folder / name).exists()}
