"""PEFT's two files of an adapter, in and out: adapter_config.json and adapter_model.safetensors.

The names of maps are those of the base's published family. The metadata of the tensors has the hash
of the weights that are adapted, where Broadbase wrote them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.files import draft_folder, read_json
from broadbase.inference.base import Base
from broadbase.nn.adapters.adapted import adapted, check_fits, linears, merged
from broadbase.nn.adapters.adapter import AdapterConfig, AdapterWeights
from broadbase.weights.field_types import errors_of
from broadbase.weights.folder import source_of
from broadbase.weights.mapping import ImportedModel
from broadbase.weights.peft_kinds import (
    KINDS,
    Part,
    PeftKind,
    Tensors,
    kind_of_config,
    kind_of_fields,
)

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # before the name of every tensor
HASH = "base_sha256"  # in the metadata of the tensors
Modules = dict[str, list[Part]]  # the maps of ours in each published one


def is_adapter(folder: Path) -> bool:
    """Return whether a folder has an adapter in PEFT's files."""
    return (folder / CONFIG).exists()


def read_adapter(folder: Path, base: Base) -> AdapterWeights:
    """Return the adapter in a folder, with the names of the maps of `base`.

    DataError where a file is damaged; ConfigError, which names the folder, where the adapter is of
    another base, or has what is not supported.
    """
    fields = read_json(folder / CONFIG, "is this an adapter of PEFT?")
    if (kind := kind_of_fields(fields)) is None:
        names = ", ".join(kind.name for kind in KINDS)
        raise ConfigError(
            f"{folder / CONFIG}: peft_type {fields.get('peft_type')!r} is not supported; use an"
            f" adapter of {names}"
        )
    _must_be_plain(folder / CONFIG, fields, kind)
    given, metadata = _tensors(folder / TENSORS)
    source, parts = _names(base)
    with errors_of(f"{folder / CONFIG} does not fit its tensors"):
        modules = _by_module(folder, given, kind, source, parts)
        config = _config(kind, fields, modules, parts)
        tensors = {
            f"{part.path}.{name}": tensor.contiguous()
            for module, some in modules.items()
            for part in parts[module]
            for name, tensor in kind.cut(config, fields, module, some, part).items()
        }
    weights = AdapterWeights(config, tensors)
    check_fits(base.model, weights, str(folder))
    if metadata.get(HASH) not in (None, fingerprint(base, weights.maps)):
        raise ConfigError(
            f"{folder}: the adapter was trained on other weights than those of this base, though of"
            " the same sizes; give the base that it was made from"
        )
    return weights


def write_adapter(weights: AdapterWeights, base: Base, folder: Path, base_name: str) -> None:
    """Write an adapter of `base` as PEFT's two files into a new folder, in full or not at all.

    `base_name` is the path or the name by which PEFT finds the base. ConfigError where PEFT has no
    such kind, or where an adapted map has no published name.
    """
    kind = kind_of_config(weights.config)
    if kind is None:
        raise ConfigError(f"PEFT has no adapters like {weights.config.name!r}")
    source, parts = _names(base)
    given: dict[str, dict[str, Tensor]] = {path: {} for path in weights.maps}
    for name, tensor in weights.tensors.items():
        path, _, parameter = name.rpartition(".")
        given[path][parameter] = tensor.detach().float().cpu()
    named = {part.path for some in parts.values() for part in some}
    if nameless := [path for path in given if path not in named]:
        raise ConfigError(f"{nameless[0]} has no name of its own in the published family")
    bare = _is_bare(base, source)
    touched = {k: some for k, some in parts.items() if any(p.path in given for p in some)}
    modules = {
        module.removeprefix(source.prefix) if bare else module: kind.joined(
            weights.config, some, given
        )
        for module, some in touched.items()
    }
    tensors = {
        f"{PREFIX}{module}.{kind.suffixes[name]}": tensor.contiguous().clone()
        for module, own in modules.items()
        for name, tensor in own.items()
    }
    every = [m.removeprefix(source.prefix) if bare else m for m in _modules_of(base, source)]
    names = _shortest(modules, every)
    fields = {
        **kind.marks,
        **kind.fields(weights.config, modules, names),
        "base_model_name_or_path": base_name,
        "target_modules": sorted({*names.values()}),
        "fan_in_fan_out": _transposed(source),
        "inference_mode": True,
        "modules_to_save": None,
        "task_type": "CAUSAL_LM" if source.pattern == "causal" and not bare else None,
    }
    maps = [part.path for some in touched.values() for part in some]
    metadata = {"format": "pt", HASH: fingerprint(base, maps)}
    with draft_folder(folder) as draft:
        (draft / CONFIG).write_text(json.dumps(fields, indent=1))
        save_file(tensors, draft / TENSORS, metadata)


def with_adapter(base: Base, weights: AdapterWeights) -> Base:
    """Return the base with an adapter merged into its weights."""
    return replace(base, model=merged(adapted(base.model, weights)).eval())


def fingerprint(base: Base, maps: Collection[str]) -> str:
    """Return the SHA-256 over the weights of some maps of a base, as 32-bit floats."""
    total, weights = hashlib.sha256(), linears(base.model)
    for path in sorted(maps):
        total.update(path.encode())
        total.update(weights[path].weight.detach().float().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _tensors(file: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    if not file.is_file():
        raise DataError(f"{file} is not there; copy it again")
    try:
        with safe_open(file, "pt") as opened:
            names = opened.keys()
            tensors = {name: opened.get_tensor(name).float() for name in names}
            return tensors, opened.metadata() or {}
    except SafetensorError as error:
        raise DataError(f"{file} cannot be read: {error}; copy it again") from None


def _must_be_plain(file: Path, fields: Mapping[str, Any], kind: PeftKind) -> None:
    """Refuse an adapter that changes more than its maps, or the base itself."""
    for name, values in kind.plain.items():
        if fields.get(name, values[0]) not in values:
            raise ConfigError(f"{file}: {name}={fields[name]!r} is not supported; train without it")


def _names(base: Base) -> tuple[ImportedModel, Modules]:
    """Return the family of a base, and its linear maps by their published names."""
    source, state, maps = source_of(base), base.model.state_dict(), linears(base.model)
    modules: Modules = {}
    for link in source.links(base.config, state):
        path, rule = link.name.removesuffix(".weight"), link.rule
        plain = not (rule.view or rule.shape) and rule.axes in (None, (1, 0))
        if path in maps and link.published.endswith(".weight") and plain:
            rows = slice(*(rule.part or (0, maps[path].out_features)))
            part = Part(path, rows, maps[path])
            modules.setdefault(link.published.removesuffix(".weight"), []).append(part)
    return source, modules


def _by_module(
    folder: Path,
    given: Mapping[str, Tensor],
    kind: PeftKind,
    source: ImportedModel,
    parts: Modules,
) -> dict[str, dict[str, Tensor]]:
    """Return tensors by published map and our parameter; ConfigError where one applies nowhere."""
    split = {}
    for name in given:
        plain = name.removeprefix(PREFIX)
        ends = [(k, end) for k, end in kind.suffixes.items() if plain.endswith(f".{end}")]
        split[name] = (plain.removesuffix(f".{ends[0][1]}"), ends[0][0]) if ends else (plain, "")
    canonical = source.canonical({module for module, _ in split.values()})
    modules: dict[str, dict[str, Tensor]] = {}
    left = []
    for name, (module, parameter) in split.items():
        if parameter and canonical[module] in parts:
            modules.setdefault(canonical[module], {})[parameter] = given[name]
        else:
            left.append(name)
    if not modules:
        first = next(iter(given), "none")
        raise ConfigError(f"{folder}: none of its tensors applies to this base ({first}, ...)")
    if left:
        raise ConfigError(
            f"{folder}: {left[0]} and {len(left) - 1} more tensors apply to nothing in this base"
        )
    for module, tensors in modules.items():
        if missing := kind.suffixes.keys() - tensors.keys():
            end = kind.suffixes[min(missing)]
            raise DataError(f"{folder / TENSORS} lacks {module}.{end}; copy it again")
    return modules


def _config(
    kind: PeftKind, fields: Mapping[str, Any], modules: Mapping[str, Tensors], parts: Modules
) -> AdapterConfig:
    """Return the settings of an adapter of these maps."""
    paths = [part.path for module in modules for part in parts[module]]
    targets = list(dict.fromkeys(path.rpartition(".")[2] for path in paths))
    tree = {"name": kind.name, "targets": targets, **kind.settings(fields, modules, parts)}
    return AdapterConfig.from_tree(tree)


def _is_bare(base: Base, source: ImportedModel) -> bool:
    """Return whether the base's folder has the names of the backbone without heads."""
    names = base.origin.names if base.origin else ()
    return bool(names) and not any(name.startswith(source.prefix) for name in names)


def _modules_of(base: Base, source: ImportedModel) -> list[str]:
    """Return the published names of all modules of a base that have a weight."""
    names = source.canonical(base.origin.names).values() if base.origin else ()
    links = source.links(base.config, base.model.state_dict())
    every = dict.fromkeys([*names, *(link.published for link in links)])
    return [name.removesuffix(".weight") for name in every if name.endswith(".weight")]


def _shortest(modules: Collection[str], every: Sequence[str]) -> dict[str, str]:
    """Return what PEFT finds these modules by: their ends, where no other module has them."""
    ends = {module: module.rpartition(".")[2] for module in modules}
    fitting = {name for name in every if name.rpartition(".")[2] in ends.values()}
    return ends if fitting == {*modules} else {module: module for module in modules}


def _transposed(source: ImportedModel) -> bool:
    """Return whether the family stores matrices as [inputs, outputs]."""
    return any(getattr(rule, "axes", None) == (1, 0) for rule in source.table.values())
