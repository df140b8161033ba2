"""Adaptation: one base, many tasks, each compared with the same model from random init."""

from typing import TYPE_CHECKING

from broadbase.core.lazy import submodules

if TYPE_CHECKING:
    from broadbase.adapt import adapted
else:
    __getattr__ = submodules(__name__)

__all__ = ["adapted"]
