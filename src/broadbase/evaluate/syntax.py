"""Programs drawn from nothing: how many Python's own parser takes, beside a 5-gram's and real ones.

All are cut alike: the first places of a text, up to its last line break.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

import numpy as np

from broadbase.data.batches import collate
from broadbase.evaluate.likelihood import chunks
from broadbase.evaluate.registry import Measure, Measured, compared
from broadbase.evidence.ngram import KneserNey
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.modalities.source_code import CodeConfig
from broadbase.objectives.causal import CausalConfig
from broadbase.run.run import Run

DRAWN, PLACES = 200, 96
PYTHON = 0.5  # of the real texts that must be Python, for the question to make sense


def parsed(run: Run, base: Base) -> Iterator[Measured]:
    """The share of programs that `ast.parse` takes; nothing of sources in other languages."""
    for source in run.likelihoods().values():
        space = run.config.data.sources[source].modality
        codec, held = base.codecs[space], run.stores[source].split("validation")
        first = [held.document(i)[1 : PLACES + 1] for i in range(min(DRAWN, len(held)))]
        real = [codec.decode(ids, (len(ids),)) for ids in first]
        if np.mean([parses(text) for text in real]) < PYTHON:
            continue
        drawn = base.samples(
            len(real), modality=space, places=PLACES, sampling=SamplingConfig(seed=0)
        )
        texts = chunks(collate(run.seen(source), space, False))
        gram = KneserNey.fit(texts, 5, int(max(text.max() for text in texts)) + 1)
        rng, ends = np.random.default_rng(0), (int(codec.start), int(codec.end or 0))
        grams = (gram.sample(*ends, PLACES, rng) for _ in real)
        others = {
            "5-gram, rows seen": [codec.decode(ids, (len(ids),)) for ids in grams],
            "real programs": real,
        }
        kinds = {"base": drawn, **others}
        found = {name: [[float(parses(t))] for t in texts_] for name, texts_ in kinds.items()}
        yield from compared(source, "drawn programs that parse", found)


def parses(text: str) -> bool:
    """Whether its whole lines are Python, and at least one says something."""
    whole = text[: text.rfind("\n") + 1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in strings
            return bool(ast.parse(whole).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


MEASURE = Measure((CausalConfig,), parsed, modalities=(CodeConfig,))
