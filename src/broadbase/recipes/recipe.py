"""What a recipe is, and where recipes are found."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from broadbase import recipes
from broadbase.core.config import hint
from broadbase.core.errors import ConfigError
from broadbase.core.outside import outside
from broadbase.run import RunConfig


@dataclass(frozen=True)
class Recipe:
    """A named way to make a run. `build(depth, data)`: one dial, and the user's data if any."""

    name: str
    summary: str
    build: Callable[[int, str | None], RunConfig]


def all_recipes() -> dict[str, Recipe]:
    """Every recipe of this package and from outside (`broadbase.recipes`, or a RECIPE)."""
    names = [m.name for m in pkgutil.iter_modules(recipes.__path__, "broadbase.recipes.")]
    modules = [importlib.import_module(name) for name in names]
    found = [module.RECIPE for module in modules if hasattr(module, "RECIPE")]
    found += outside("recipes", "RECIPE")
    return {recipe.name: recipe for recipe in found}


def expected() -> dict[str, dict[str, Any]]:
    """What `make results` last found of the recipes: data, command, seconds, first result.

    Of several rows of a recipe the first one.
    """
    file = files(recipes) / "results.json"
    rows = json.loads(file.read_text()) if file.is_file() else []
    return {row["recipe"]: row for row in reversed(rows)}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; ConfigError with the nearest one."""
    known = all_recipes()
    if name not in known:
        raise ConfigError(f"there is no recipe {name!r}{hint(name, known)}")
    return known[name]
