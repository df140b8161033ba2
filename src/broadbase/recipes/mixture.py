"""One run from several: data of several folders, or of several kinds, in one mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broadbase.core.errors import ConfigError

Tree = dict[str, Any]  # of a RunConfig


def mixture(trees: Sequence[Tree]) -> Tree:
    """Return one training on the sources of all configs, each with an equal share of a step's rows.

    The first config decides the rest. ConfigError where the objectives or the towers differ, or
    where sources are pairs, as their objective names them.
    """
    first = trees[0]
    sources: dict[str, Tree] = {}
    for tree in trees:
        towers = (tree["model"]["towers"].keys(), first["model"]["towers"].keys())
        if tree["objective"] != first["objective"] or towers[0] != towers[1]:
            raise ConfigError(
                f"recipes {first['recipe']!r} and {tree['recipe']!r} cannot be one mixture: their"
                " objectives or towers differ"
            )
        for name, mixed in tree["data"]["sources"].items():
            if mixed["pair_group"] is not None:
                raise ConfigError(f"recipe {tree['recipe']!r} trains on pairs: give --data once")
            rows = max(1, round(mixed["batch_size"] / len(trees)))
            sources[_free(name, sources)] = mixed | {"batch_size": rows}
    model = first["model"] | {
        part: {
            name: value for tree in reversed(trees) for name, value in tree["model"][part].items()
        }
        for part, named in first["model"].items()
        if isinstance(named, dict) and part != "towers"  # modalities, and where they belong
    }
    return first | {"model": model, "data": first["data"] | {"sources": sources}}


def _free(name: str, taken: dict[str, Tree]) -> str:
    """Return the name, or the first of NAME_2, NAME_3, ... that is free."""
    names = (f"{name}_{i}" if i > 1 else name for i in range(1, len(taken) + 2))
    return next(each for each in names if each not in taken)
