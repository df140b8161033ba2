"""The ways to adapt a base, by name; their work is in a module each."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """Ways to adapt a base."""

    probe = "probe"
    finetune = "finetune"
    knn = "knn"
