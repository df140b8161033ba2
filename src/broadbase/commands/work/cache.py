"""The work of `cache`, and what commands that read records say of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from broadbase.adapt.vector_cache import LIMIT, opened, using
from broadbase.commands.options import log
from broadbase.core.terminal import echo


@contextmanager
def embeddings(on: bool) -> Iterator[None]:
    """Let the encoders of this context take embeddings from the user's cache, and say how many."""
    cache = opened(on)
    with using(cache):
        yield
    if cache is None:
        return
    if cache.hits:
        log.say(
            f"{cache.hits:,} of {cache.wanted:,} embeddings come from the cache"
            " (--no-cache computes them)"
        )
    for note in cache.notes:
        log.say(note)


def show(clear: bool, as_json: bool) -> None:
    """Print what the cache of embeddings holds, after it was cleared if that is wanted."""
    cache = opened()
    if cache is None:
        log.say(f"there is no cache of embeddings, because {LIMIT} is 0")
        return
    if clear:
        cache.clear()
    vectors, readings, size = cache.count()
    summary = {
        "path": str(cache.path),
        "embeddings": vectors,
        "bases": readings,
        "megabytes": round(size / 1e6, 1),
        "at most": round(cache.limit / 1e6, 1),
    }
    if as_json:
        echo(json.dumps(summary))
        return
    echo(
        f"{vectors:,} embeddings by {readings:,} bases, {size / 1e6:,.1f} MB of at most"
        f" {cache.limit / 1e6:,.0f}, in {cache.path}"
    )
    for note in cache.notes:
        log.say(note)
