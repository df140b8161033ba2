"""What comes from outside: installed entry points, and modules that the user names.

An installed package brings its parts as entry points of a group `broadbase.GROUP`. Who has only a
file or a folder beside the data names it in BROADBASE_MODULES, with commas between several; it is
looked for where Python looks, and in the current folder.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from broadbase.core.errors import ConfigError

VARIABLE = "BROADBASE_MODULES"


def outside(group: str, attribute: str = "") -> list[Any]:
    """The parts of `group` from outside; of a named module its `attribute`, where it has one.

    ConfigError where a named module is not found.
    """
    found = [point.load() for point in entry_points(group=f"broadbase.{group}")]
    modules = [_module(name.strip()) for name in os.environ.get(VARIABLE, "").split(",") if name]
    return found + [getattr(module, attribute) for module in modules if hasattr(module, attribute)]


def _module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # the last: a file of yours hides no module of another's
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigError(
            f"{VARIABLE} names {name!r}, and there is no {name}.py or {name}/ in {here}, nor where"
            " Python looks (PYTHONPATH); name modules as in `import`, with commas between"
        ) from None
