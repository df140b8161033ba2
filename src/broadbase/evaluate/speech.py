"""What a base writes down of held-out sounds, greedily: its share of wrong characters (CER).

Legend: B sounds, T places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch

from broadbase.core.view import Segment
from broadbase.evaluate.registry import Measure, Measured, compared
from broadbase.inference.autoregressive import SamplingConfig, continued
from broadbase.inference.base import Base
from broadbase.modalities.audio import AudioConfig
from broadbase.modalities.bytes import BytesConfig
from broadbase.objectives.conditional import Conditional, GivenConfig
from broadbase.run.run import Run


def transcripts(run: Run, base: Base) -> Iterator[Measured]:
    """Edits a character, each sound by itself, beside the same base that hears another sound.

    The commonest training text is a baseline too: of those of median length.
    """
    config = run.config.objective
    assert isinstance(config, GivenConfig)
    objective = config.build()
    found: dict[str, list[list[float]]] = {}
    common = _common(run, base, config.told)
    for batch in run.held_out():
        given, told = batch.segments[config.given], batch.segments[config.told]
        assert told.values is not None
        texts = [_text(base, told.source, row) for row in told.values[:, 1:]]
        wrong = given.map(lambda x: x.roll(1, dims=0))
        answers = {
            "base": _written(base, objective, given, told),
            "the same, of another sound": _written(base, objective, wrong, told),
            "commonest text": [common] * len(texts),
        }
        for name, said in answers.items():
            pairs = zip(said, texts, strict=True)
            found.setdefault(name, []).extend([edits(a, b) / max(1, len(b))] for a, b in pairs)
    yield from compared(config.told, "CER", found)


def edits(one: str, other: str) -> int:
    """The fewest insertions, deletions and changes from one to the other (Levenshtein 1966)."""
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            row.append(min(row[-1] + 1, last[j] + 1, last[j - 1] + (a != b)))
        last = row
    return last[-1]


def _written(base: Base, objective: Conditional, given: Segment, told: Segment) -> list[str]:
    """What the base writes of each given sound, up to the length of a row."""
    first = told.map(lambda x: x[:, :1])
    view = objective.prompt(given, first)
    places = torch.arange(1, told.position.shape[1]).unsqueeze(-1).expand(-1, 3)
    choose = SamplingConfig(temperature=0).build()
    steps = continued(base.model, view, places, choose)
    drawn_BT = torch.cat(list(steps), dim=1)
    return [_text(base, told.source, row) for row in drawn_BT]


def _text(base: Base, space: str, values_T: torch.Tensor) -> str:
    """The text before the first end."""
    codec = base.codecs[space]
    ends = (values_T == torch.as_tensor(codec.end)).nonzero()
    kept = values_T[: int(ends[0])] if len(ends) else values_T
    return str(codec.decode(kept.numpy(), (len(kept),)))


def _common(run: Run, base: Base, source: str) -> str:
    """The commonest of the training texts that are as long as half of them are."""
    rows, space = run.rows("train")[source], run.config.data.sources[source].modality
    texts = [_text(base, space, torch.from_numpy(rows[i].values[1:])) for i in range(len(rows))]
    middle = sorted(map(len, texts))[len(texts) // 2]
    return Counter(text for text in texts if len(text) == middle).most_common(1)[0][0]


MEASURE = Measure((GivenConfig,), transcripts, modalities=(AudioConfig, BytesConfig))
