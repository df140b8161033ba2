"""Modules that are imported when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType


def submodules(package: str) -> Callable[[str], ModuleType]:
    """Return a `__getattr__` for `package` that imports a module of it by name (PEP 562).

    Assign it in the package's `__init__.py`, and import the same names under `TYPE_CHECKING`, so
    that type checkers see the modules themselves.
    """

    def load(name: str) -> ModuleType:
        module = f"{package}.{name}"
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None

    return load
