"""Generated programs: the share that Python parses, against a 5-gram's and real ones.

All are cut alike: the first tokens of a text, up to its last line break.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

import numpy as np

from broadbase.data.batches import collate
from broadbase.evaluate.likelihood import chunks
from broadbase.evaluate.registry import Measure
from broadbase.evidence.comparison import MODEL, Comparison, Metric, compare
from broadbase.evidence.ngram import KneserNey
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.modalities.source_code import CodeConfig
from broadbase.objectives.causal import CausalConfig
from broadbase.run.run import Run

PROGRAMS, MAX_NEW_TOKENS = 200, 96
PYTHON = 0.5  # the share of real texts that must parse, or the source is not Python
METRIC = Metric("generated programs that parse", "higher")


def programs(run: Run, base: Base, _: CausalConfig) -> Iterator[Comparison]:
    """Compare the share of programs that `ast.parse` accepts; skip sources not in Python."""
    for source in run.likelihoods().values():
        space = run.config.data.sources[source].modality
        codec, validation = base.codecs[space], run.stores[source].split("validation")
        size = min(PROGRAMS, len(validation))
        documents = [validation.document(i)[1 : MAX_NEW_TOKENS + 1] for i in range(size)]
        real = [codec.decode(ids, (len(ids),)) for ids in documents]
        if np.mean([parses(text) for text in real]) < PYTHON:
            continue
        generated = base.sample(
            size, modality=space, max_new_tokens=MAX_NEW_TOKENS, sampling=SamplingConfig(seed=0)
        )
        seen = chunks(collate(run.seen(source), space, False))
        gram = KneserNey.fit(seen, 5, int(max(text.max() for text in seen)) + 1)
        rng, ends = np.random.default_rng(0), (int(codec.start), int(codec.end or 0))
        sampled = [gram.sample(*ends, MAX_NEW_TOKENS, rng) for _ in real]
        texts = {
            MODEL: generated,
            "5-gram, rows seen": [codec.decode(ids, (len(ids),)) for ids in sampled],
            "real programs": real,
        }
        scores = {name: [[float(parses(t))] for t in each] for name, each in texts.items()}
        yield from compare(source, METRIC, scores)


def parses(text: str) -> bool:
    """Return whether the complete lines of a text are Python with at least one statement."""
    lines = text[: text.rfind("\n") + 1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in strings
            return bool(ast.parse(lines).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


MEASURE = Measure((CausalConfig,), programs, modalities=(CodeConfig,))
