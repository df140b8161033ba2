"""The usage of a base without conditioning."""

from __future__ import annotations

from collections.abc import Mapping

from broadbase.core.usage import DataFacts, Usage
from broadbase.inference.autoregressive import AutoregressiveConfig


def plain_usage(
    attention: str,
    attention_of: Mapping[str, str] | None = None,
    facts: DataFacts | None = None,
) -> Usage:
    """Return the usage of a base that continues its prompt if its attention is causal.

    A base with another pattern does not generate.
    """
    return Usage(
        attention=attention,
        attention_of=dict(attention_of or {}),
        generator=AutoregressiveConfig() if attention == "causal" else None,
        grids=dict(facts.grids) if facts else {},
    )


CAUSAL = plain_usage("causal")
