"""From the words of a command to the config of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from broadbase.core.config import override
from broadbase.core.contracts import ModalityConfig
from broadbase.core.errors import ConfigError
from broadbase.data.detect import STORE
from broadbase.modalities.ids import IdsConfig
from broadbase.recipes.mixture import mixture
from broadbase.recipes.recipe import Recipe, as_family_of, continue_from, find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.prepare import adopted


def resolve(
    recipe: str,
    data: str | Sequence[str] | None,
    depth: int | None,
    changes: Sequence[str] = (),
    *,
    field: str | None = None,
    pattern: str | None = None,
    init_from: str | None = None,
    family: str | None = None,
    steps: int | None = None,
    context: int | None = None,
    batch_size: int | None = None,
) -> RunConfig:
    """A recipe, or a config.yaml to repeat; then `start`, the changes, and `like` at the end.

    Of several `data` a mixture. `pattern` says which files are read, `field` which column of a
    table; `context` is the tokens of a row, `batch_size` the rows of a step.
    """
    if any(change.partition("=")[0].strip() == "depth" for change in changes):
        raise ConfigError(
            "depth is decided before a config is made: `pretrain RECIPE --depth N`; a config file"
            " holds the layers themselves, in model.towers"
        )
    config = _built(recipe, [data] if isinstance(data, str) else data or [], depth)
    if init_from is not None:
        config = continue_from(config, init_from)
    tree = config.tree()
    sources = tree["data"]["sources"]
    if field is not None:
        tables = [t for s in sources.values() for t in _tables(s["source"])]
        if not tables:
            for mixed in config.data.sources.values():
                mixed.source.parts()  # where there is nothing to read, that is said first
            raise ConfigError("--field names a column of a table, and the data hold no table")
        for table in tables:
            table["field"] = field
    if pattern is not None:
        files = [s["source"] for s in sources.values() if "pattern" in s["source"]]
        if not files:
            raise ConfigError("--pattern says which files of a folder are read; this data has none")
        files[0]["pattern"] = pattern  # the others are tables
    if steps is not None:
        tree["train"]["steps"] = steps
    if context is not None:
        of_ids = [name for name in sources if isinstance(_modality(config, name), IdsConfig)]
        if not of_ids:
            raise ConfigError(
                "--context is the tokens of a row of text, and this recipe reads none; what a"
                " record of another kind takes follows from its size"
            )
        for name in of_ids:
            sources[name]["sequence_length"] = context
    if batch_size is not None:
        _set_rows(sources, batch_size)
    changed = overridden(tree, changes)
    if changed != config.tree():
        config = RunConfig.from_tree(changed)
    return config if family is None else as_family_of(config, family)


def _built(recipe: str, data: Sequence[str], depth: int | None) -> RunConfig:
    if recipe.endswith((".yaml", ".yml")):
        if data or depth is not None:
            raise ConfigError(
                "a config file names its data and holds its layers: change data.sources and"
                " model.towers in it, or with --set; --data and --depth are for a recipe's name"
            )
        config = RunConfig.read(Path(recipe))
        if config.depth is not None:
            raise ConfigError(
                f"{recipe}: `depth` has no effect in a config file, whose layers are in"
                " model.towers; delete that line, and change the layers, or use"
                " `pretrain RECIPE --depth N`"
            )
        return config
    paths: Sequence[str | None] = data or [None]
    configs = [_on(find_recipe(recipe), depth or 4, path) for path in paths]
    return configs[0] if len(configs) == 1 else mixture(configs)


def _on(recipe: Recipe, depth: int, path: str | None) -> RunConfig:
    """A recipe on a folder, a file, ..., or on what a store was made of."""
    config = recipe.build(depth, path)
    if path is None or not path.startswith(STORE):
        return config
    return adopted(config, Path(path.removeprefix(STORE)))


def _modality(config: RunConfig, source: str) -> ModalityConfig:
    return config.model.modalities[config.data.sources[source].modality]


def _set_rows(sources: Mapping[str, dict[str, Any]], rows: int) -> None:
    """So many rows a step: of each pair one row, of other sources in the same parts as before."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, mixed in sources.items():
        groups.setdefault(mixed["pairs"] or f"/{name}", []).append(mixed)
    before = [group[0]["batch_size"] for group in groups.values()]
    if rows < len(groups):
        raise ConfigError(f"--batch-size {rows}: {len(groups)} sources need a row each, or more")
    parts = [max(1, rows * each // sum(before)) for each in before]
    while (gap := rows - sum(parts)) != 0:
        parts[parts.index(max(parts))] += gap if gap > 0 else -1
    for group, part in zip(groups.values(), parts, strict=True):
        for mixed in group:
            mixed["batch_size"] = part


def _tables(source: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The settings of all tables that a source reads, itself or through others."""
    if isinstance(source, dict) and "field" in source:
        yield source
    for inner in source.values():
        if isinstance(inner, Mapping):
            yield from _tables(inner)


def overridden(tree: Mapping[str, Any], settings: Sequence[str]) -> Mapping[str, Any]:
    """A config tree with every `a.b=value` applied."""
    for setting in settings:
        tree = override(tree, setting)
    return tree
