"""Character error rate (CER) of held-out sounds, transcribed greedily.

Legend: B sounds, T tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch

from broadbase.core.view import Segment
from broadbase.evaluate.registry import Measure
from broadbase.evidence.comparison import MODEL, Comparison, Metric, compare
from broadbase.inference.autoregressive import SamplingConfig, continued
from broadbase.inference.base import Base
from broadbase.modalities.audio import AudioConfig
from broadbase.modalities.bytes import BytesConfig
from broadbase.objectives.conditional import ConditionalConfig
from broadbase.run.run import Run

CER = Metric("CER", "lower")


def transcripts(run: Run, base: Base, config: ConditionalConfig) -> Iterator[Comparison]:
    """Compare the CER of each sound with that of the same model given another sound.

    Another baseline is the most frequent training text, of those of median length.
    """
    scores: dict[str, list[list[float]]] = {}
    frequent = _most_frequent(run, base, config.target)
    for batch in run.held_out():
        sounds, targets = batch.segments[config.source], batch.segments[config.target]
        texts = [_text(base, targets.space, row) for row in targets.values[:, 1:]]
        shuffled = sounds.map(lambda x: x.roll(1, dims=0))
        predictions = {
            MODEL: _transcribe(base, sounds, targets),
            "same model, another sound": _transcribe(base, shuffled, targets),
            "most frequent text": [frequent] * len(texts),
        }
        for name, transcribed in predictions.items():
            rates = [edits(a, b) / max(1, len(b)) for a, b in zip(transcribed, texts, strict=True)]
            scores.setdefault(name, []).extend([rate] for rate in rates)
    yield from compare(config.target, CER, scores)


def edits(one: str, other: str) -> int:
    """Return the fewest insertions, deletions and changes between texts (Levenshtein 1966)."""
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            row.append(min(row[-1] + 1, last[j] + 1, last[j - 1] + (a != b)))
        last = row
    return last[-1]


def _transcribe(base: Base, sounds: Segment, targets: Segment) -> list[str]:
    """Return the model's greedy transcript of each sound, up to the length of a row."""
    start = targets.map(lambda x: x[:, :1])
    conditioning = base.usage.conditioning
    assert conditioning is not None
    view = conditioning.prompt(sounds, start)
    positions = torch.arange(1, targets.position.shape[1]).unsqueeze(-1).expand(-1, 3)
    greedy = SamplingConfig(temperature=0).build()
    ids_BT = torch.cat(list(continued(base.model, view, positions, greedy)), dim=1)
    return [_text(base, targets.space, row) for row in ids_BT]


def _text(base: Base, space: str, values_T: torch.Tensor) -> str:
    """Return the text before the first end token."""
    codec = base.codecs[space]
    ends = (values_T == torch.as_tensor(codec.end)).nonzero()
    inside = values_T[: int(ends[0])] if len(ends) else values_T
    return str(codec.decode(inside.numpy(), (len(inside),)))


def _most_frequent(run: Run, base: Base, source: str) -> str:
    """Return the most frequent of the training texts of median length."""
    rows, space = run.rows("train")[source], run.config.data.sources[source].modality
    texts = [_text(base, space, torch.from_numpy(rows[i].values[1:])) for i in range(len(rows))]
    median = sorted(map(len, texts))[len(texts) // 2]
    return Counter(text for text in texts if len(text) == median).most_common(1)[0][0]


MEASURE = Measure((ConditionalConfig,), transcripts, modalities=(AudioConfig, BytesConfig))
