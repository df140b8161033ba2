"""Packages of optional extras: imported where they are used, named in an error where missing."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from broadbase.core.errors import ConfigError


@cache
def require_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an extra; ConfigError says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"{purpose} needs: pip install 'broadbase[{extra}]'") from None


@cache
def chemistry() -> Any:
    """RDKit's Chem, which reports by what it returns and not on stderr."""
    require_extra("rdkit.RDLogger", "chemistry", "reading molecules").DisableLog("rdApp.*")
    return require_extra("rdkit.Chem", "chemistry", "reading molecules")
