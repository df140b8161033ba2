"""What comes from outside: installed entry points, and modules that the user names.

An installed package brings its parts as entry points of a group `broadbase.GROUP`. Who has only a
file or a folder next to the data names it in BROADBASE_PLUGINS, with commas between several; it is
looked for where Python looks, and in the current folder.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from broadbase.core.errors import BroadbaseError, ConfigError

VARIABLE = "BROADBASE_PLUGINS"


def modules(package: str) -> Iterator[ModuleType]:
    """Import and yield every module of `package` and of the packages in it."""
    root = importlib.import_module(package)
    for info in pkgutil.walk_packages(root.__path__, f"{package}."):
        yield importlib.import_module(info.name)


def declared(package: str, attribute: str) -> list[Any]:
    """Return `attribute` of every module of `package` that has it."""
    return [getattr(m, attribute) for m in modules(package) if hasattr(m, attribute)]


def plugins(group: str, attribute: str = "") -> list[Any]:
    """Load the plugins of `group`; of a named module its `attribute`, where it has one.

    ConfigError where a named module does not exist, or cannot be imported.
    """
    loaded = [point.load() for point in entry_points(group=f"broadbase.{group}")]
    return loaded + [getattr(m, attribute) for m in named_modules() if hasattr(m, attribute)]


def named_modules() -> list[ModuleType]:
    """Import the modules that the user names; ConfigError as `plugins`."""
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    return [_module(name) for name in names if name]


def _module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"{VARIABLE} names {name!r}, which is no name of a module; name modules as in `import`,"
            " with commas between"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # the last: a file of yours hides no module of another's
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{VARIABLE}: {name} imports {error.name}, which is not installed"
            ) from error
        raise ConfigError(
            f"{VARIABLE} names {name!r}, and there is no {name}.py or {name}/ in {here}, nor where"
            " Python looks (PYTHONPATH); name modules as in `import`, with commas between"
        ) from None
    except BroadbaseError:
        raise
    except Exception as error:  # whatever the module's own code does
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"{VARIABLE}: {name} cannot be imported: {type(error).__name__}: {error}"
            f" ({at.filename}:{at.lineno})"
        ) from error
