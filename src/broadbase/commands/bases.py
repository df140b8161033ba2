"""The command `bases`."""

from __future__ import annotations

from broadbase.commands import work
from broadbase.commands.options import Json


def bases(as_json: Json = False) -> None:
    """List published bases that packages ship; use one as sample:NAME for a model folder."""
    work.exchange.bases(as_json)
