"""The recipes by name, with what each is: read from their text, so that no torch is loaded."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from broadbase.core.plugins import plugins


def summaries() -> dict[str, str]:
    """Return what every recipe is, by name: of this package, then from plugins.

    Recipes from plugins are imported, as `recipe.all_recipes` does.
    """
    return _shipped() | {recipe.name: recipe.summary for recipe in plugins("recipes", "RECIPE")}


def names(incomplete: str = "") -> list[str]:
    """Return the names of this package's recipes that begin so, for completion in a shell."""
    return [name for name in _shipped() if name.startswith(incomplete)]


def expected() -> dict[str, dict[str, Any]]:
    """Return what `make results` measured of the recipes last, by name: seconds, first result."""
    file = Path(__file__).with_name("expected.json")
    rows = json.loads(file.read_text()) if file.is_file() else []
    return {row["recipe"]: row for row in reversed(rows)}


def _shipped() -> dict[str, str]:
    """Return the summaries of this package's recipes by name: the texts in `Recipe(...)`."""
    summaries = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        call = file.read_text().partition("\nRECIPE = Recipe")[2]
        if call:
            name, summary, *_ = ast.parse(f"Recipe{call}", mode="eval").body.args  # type: ignore[attr-defined]
            summaries[ast.literal_eval(name)] = ast.literal_eval(summary)
    return summaries
