"""From the words of a command to the config of a run.

A recipe, or a config file, becomes a tree of plain values. Functions change the tree one after
another, and at the end it is parsed, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from broadbase.core.config import override
from broadbase.core.contracts import ModalityConfig, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.core.sources import SourceConfig
from broadbase.core.trees import brief
from broadbase.data.detect import STORE
from broadbase.modalities.bpe import BytePairConfig
from broadbase.modalities.chat import ChatConfig
from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.recipes.mixture import mixture
from broadbase.recipes.recipe import Recipe, find_recipe
from broadbase.run.config import DataConfig, RunConfig, with_lengths
from broadbase.run.prepare import adopted
from broadbase.weights.folder import load
from broadbase.weights.match import as_family
from broadbase.weights.warm_start import config_with_head

Tree = dict[str, Any]
NOTHING = object()
TEXT = (BytePairConfig, ChatConfig)  # modalities that any tokenizer of text can read


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
    """Return a recipe's config, or that of a config.yaml to repeat, with changes.

    First the config continues from the base `init_from`. Then the options and `changes`
    (`a.b=value`) are set. At the end the model becomes one of the published `family`. Several
    `data` make a mixture. `pattern` says which files are read, `field` which column of a table,
    `context` how many tokens a row of text has, `batch_size` how many rows a step has.
    """
    if any(change.partition("=")[0].strip() == "depth" for change in changes):
        raise ConfigError(
            "depth is decided before a config is made: `pretrain RECIPE --depth N`; a config file"
            " holds the layers themselves, in model.towers"
        )
    tree = _built(recipe, [data] if isinstance(data, str) else data or [], depth)
    if init_from is not None:
        tree = continue_from(tree, init_from)
    sources = tree["data"]["sources"]
    if field is not None:
        _set_field(sources, field)
    if pattern is not None:
        _set_pattern(sources, pattern)
    if steps is not None:
        tree["train"]["steps"] = steps
    if context is not None:
        _set_context(tree["model"]["modalities"], sources, context)
    if batch_size is not None:
        _set_rows(sources, batch_size)
    changed = overridden(tree, changes)
    if family is not None:
        changed = as_family_of(tree, family, changes)
    return RunConfig.from_tree(changed)


def continue_from(tree: Tree, init_from: str) -> Tree:
    """Return the tree of the same training, started from the base in a run or model folder.

    The model is the base's, with the modalities, heads and connectors that only the recipe has.
    Text with a vocabulary to be learned is read with the tokenizer of published weights instead, in
    rows no longer than their positions. A head that the base lacks is initialised. ConfigError if
    the recipe trains a tower that the base lacks, on data that the base reads.
    """
    base, new = load(init_from), ModelConfig.from_tree(tree["model"], "model")
    complete = config_with_head(base)
    name_of = {name: name for name in new.modalities}
    for name, modality in base.config.modalities.items():
        if isinstance(modality, TokensConfig) and name in base.codecs:
            texts = (n for n, m in new.modalities.items() if isinstance(m, TEXT))
            name_of |= dict.fromkeys(texts, name)
    first = next(iter(new.towers))
    added = [n for n in new.modalities if name_of[n] == n not in base.config.modalities]
    read = {name_of[n]: m for n, m in new.modalities.items() if n not in added}
    old = {
        name: read[name].over(modality, base.codecs[name]) if name in read else modality
        for name, modality in complete.modalities.items()
    }
    heads = {name: head for name, head in new.heads.items() if name not in base.config.heads}
    tower_of = {name: new.tower_of.get(name, first) for name in (*added, *heads)}
    possible = {*base.config.towers, *tower_of.values()}
    if missing := [name for name in new.towers if name not in possible]:
        raise ConfigError(
            f"init_from={init_from}: recipe {tree['recipe']!r} trains tower {', '.join(missing)},"
            f" and this base has {', '.join(base.config.towers)} for {', '.join(base.codecs)}; take"
            f" a recipe of its towers, or a base with {', '.join(new.towers)}"
        )
    pairs = {(c.source, c.target) for c in base.config.connectors}
    connectors = (c for c in new.connectors if (c.source, c.target) not in pairs)
    model = ModelConfig(
        modalities={**old, **{name: new.modalities[name] for name in added}},
        heads={**complete.heads, **heads},
        towers={**base.config.towers, **new.towers, **base.config.towers},
        tower_of={**tower_of, **base.config.tower_of},
        connectors=(*base.config.connectors, *connectors),
    )
    sources = {}
    for name, mixed in tree["data"]["sources"].items():
        space = name_of[mixed["modality"]]
        length = mixed["sequence_length"]
        if length is not None:  # null follows from the records
            length = int(min(length, model.max_length(space)))
        sources[name] = mixed | {"modality": space, "sequence_length": length}
    data = tree["data"] | {"sources": sources}
    return tree | {"model": model.tree(), "data": data, "init_from": init_from}


def as_family_of(tree: Tree, family: str, changes: Sequence[str] = ()) -> Tree:
    """Return a config tree with `changes`, its model as one of a published family (a model_type).

    The sizes stay. ConfigError where the family undoes a change of the model.
    """
    changed = overridden(tree, changes)
    model, of_family = _models(changed, family)
    for i, change in enumerate(changes):
        root, *keys = change.partition("=")[0].strip().split(".")
        if root != "model":
            continue
        was, now = _at(model, keys), _at(of_family, keys)
        if now is NOTHING:  # a size may have another name there
            others = overridden(tree, [*changes[:i], *changes[i + 1 :]])
            undone = _made(others, family) == of_family
        else:
            undone = _differs(was, now)
        if undone:
            there = "which it has not" if now is NOTHING else f"which is {brief(now)} there"
            raise ConfigError(
                f"--family {family} takes its own model, {there}: it would undo --set {change}"
            )
    return changed | {"model": of_family}


def _models(tree: Tree, family: str) -> tuple[Tree, Tree]:
    """Return the trees of a config's model, and of the same model as one of the family."""
    model = ModelConfig.from_tree(tree["model"], "model")
    pattern = ObjectiveConfig.from_tree(tree["objective"], "objective").pattern
    sources = DataConfig.from_tree(tree["data"], "data").sources
    rows = with_lengths(sources, model.modalities).values()
    length = max(mixed.row_length for mixed in rows)
    return model.tree(), as_family(model, family, pattern, length).tree()


def _at(tree: Any, keys: Sequence[str]) -> Any:
    """Return the value under these keys, or NOTHING where there is none."""
    for key in keys:
        if isinstance(tree, list) and key.isdecimal() and int(key) < len(tree):
            tree = tree[int(key)]
        elif isinstance(tree, Mapping) and key in tree:
            tree = tree[key]
        else:
            return NOTHING
    return tree


def _differs(was: Any, now: Any) -> bool:
    """Return whether a setting changed; one that a slot of the same name has not is no change."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        return any(_differs(value, now[key]) for key, value in was.items() if key in now)
    return bool(was != now)


def _made(tree: Tree, family: str) -> Tree | None:
    """Return the model of a config as one of the family; None where there is none."""
    try:
        return _models(tree, family)[1]
    except ConfigError:
        return None


def _built(recipe: str, data: Sequence[str], depth: int | None) -> Tree:
    """Return the tree of a config file, or of a recipe on data; of several data, a mixture."""
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
        return config.open_tree()
    paths: Sequence[str | None] = data or [None]
    trees = [_on(find_recipe(recipe), depth or 4, path) for path in paths]
    return trees[0] if len(trees) == 1 else mixture(trees)


def _on(recipe: Recipe, depth: int, path: str | None) -> Tree:
    """Return a recipe on a folder, a file, ..., or on what a store was made of."""
    tree = recipe.build(depth, path).open_tree()
    if path is None or not path.startswith(STORE):
        return tree
    return adopted(tree, Path(path.removeprefix(STORE)))


def _set_field(sources: Tree, field: str) -> None:
    tables = [table for mixed in sources.values() for table in _tables(mixed["source"])]
    if not tables:
        for mixed in sources.values():  # where there is nothing to read, that is said first
            SourceConfig.from_tree(mixed["source"]).parts()
        raise ConfigError("--field names a column of a table, and the data hold no table")
    for table in tables:
        table["field"] = field


def _set_pattern(sources: Tree, pattern: str) -> None:
    files = [s["source"] for s in sources.values() if "pattern" in s["source"]]
    if not files:
        raise ConfigError("--pattern says which files of a folder are read; this data has none")
    files[0]["pattern"] = pattern  # the others are tables


def _set_context(modalities: Tree, sources: Tree, tokens: int) -> None:
    """Set the tokens of a row of every source of ids."""
    ids = {n for n, tree in modalities.items() if ModalityConfig.from_tree(tree).id_settings}
    of_ids = [each for each in sources.values() if each["modality"] in ids]
    if not of_ids:
        raise ConfigError(
            "--context is the tokens of a row of text, and this recipe reads none; what a"
            " record of another kind takes follows from its size"
        )
    for mixed in of_ids:
        mixed["sequence_length"] = tokens


def _set_rows(sources: Mapping[str, dict[str, Any]], rows: int) -> None:
    """Set the rows of a step: one for each pair, the other sources in the same parts as before."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, mixed in sources.items():
        groups.setdefault(mixed["pair_group"] or f"/{name}", []).append(mixed)
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
    """Yield the settings of all tables that a source reads, itself or through others."""
    if isinstance(source, dict) and "field" in source:
        yield source
    for inner in source.values():
        if isinstance(inner, Mapping):
            yield from _tables(inner)


def overridden(tree: Mapping[str, Any], settings: Sequence[str]) -> Tree:
    """Return a config tree with every `a.b=value` applied."""
    for setting in settings:
        tree = override(tree, setting)
    return dict(tree)
