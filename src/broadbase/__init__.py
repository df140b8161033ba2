"""Broadbase: one foundation model, pretrained on whatever data you have, adapted many times."""

from broadbase.model.base import Base
from broadbase.weights.folder import load

__all__ = ["Base", "load"]
