"""A run: its config, its data, and the folder that keeps what it did."""

from broadbase.run.config import RunConfig
from broadbase.run.run import Run

__all__ = ["Run", "RunConfig"]
