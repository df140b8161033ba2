"""The work of `recipes NAME`: the complete config of a recipe."""

from __future__ import annotations

import json

from broadbase.core.terminal import echo
from broadbase.recipes.printed import documented
from broadbase.recipes.recipe import example, find_recipe


def printed(name: str, depth: int | None, as_json: bool) -> None:
    """Print every setting of a recipe on stdout, as a config.yaml or as JSON."""
    config = example(find_recipe(name), depth or 4)
    echo(json.dumps(config.tree()) if as_json else documented(config), end="")
