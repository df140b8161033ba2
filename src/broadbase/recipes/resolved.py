"""From the words of a command to the config of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from broadbase.core.config import override
from broadbase.core.errors import ConfigError
from broadbase.data.detect import STORE
from broadbase.recipes.recipe import alike, find_recipe, onward
from broadbase.run.config import RunConfig
from broadbase.run.prepare import adopted


def resolved(
    recipe: str,
    data: str | None,
    depth: int | None,
    changes: Sequence[str] = (),
    *,
    field: str | None = None,
    start: str | None = None,
    like: str | None = None,
) -> RunConfig:
    """A recipe, or a config.yaml to repeat, then `start`, the changes, and `like` at the end."""
    if any(change.partition("=")[0].strip() == "depth" for change in changes):
        raise ConfigError(
            "depth is decided before a config is made: `pretrain RECIPE --depth N`; a config file"
            " holds the layers themselves, in model.towers"
        )
    if recipe.endswith((".yaml", ".yml")):
        if data is not None or depth is not None:
            raise ConfigError(
                "a config file names its data and holds its layers: change data.sources and"
                " model.towers in it, or with --set; --data and --depth are for a recipe's name"
            )
        config = RunConfig.read(Path(recipe))
    else:
        config = find_recipe(recipe).build(depth or 4, data)
        if data is not None and data.startswith(STORE):
            config = adopted(config, Path(data.removeprefix(STORE)))
    if start is not None:
        config = onward(config, start)
    tree = config.tree()
    if field is not None:
        tables = [t for s in tree["data"]["sources"].values() for t in _tables(s["source"])]
        if not tables:
            raise ConfigError("--field names a column of a table, and the data hold no table")
        for table in tables:
            table["field"] = field
    if changes or field:
        config = RunConfig.from_tree(overridden(tree, changes))
    return config if like is None else alike(config, like)


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
