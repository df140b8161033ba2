"""What a base generates while it is trained: samples.jsonl, after each evaluation.

A line is {"step", "source", "prompt", "text"}, the beginning of a held-out record and what the
model continues it with, or {"step", "source", "picture"}, a PNG file in base64.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from broadbase.core.codec import Codec
from broadbase.core.errors import BroadbaseError
from broadbase.inference.base import Base
from broadbase.modalities.shown import as_image
from broadbase.run.corpus import Corpus
from broadbase.run.records import held_out
from broadbase.train.metrics_log import rewrite

FILE = "samples.jsonl"
GIVEN, NEW = 16, 32  # tokens of a prompt, and after it
LARGEST = 256  # tokens of a picture: more would take long next to the steps


class Prompt(NamedTuple):
    """What the samples of a source are generated from."""

    source: str
    modality: str
    text: str | None  # None: from nothing, a picture


@dataclass(frozen=True)
class Samples:
    """The samples of a run: from the same prompts and seeds after each evaluation."""

    path: Path
    prompts: Sequence[Prompt]

    @classmethod
    def of(
        cls, corpus: Corpus, codecs: Mapping[str, Codec], base: Base, folder: Path, step: int
    ) -> Samples:
        """Take so many beginnings of held-out texts of each source, or so many pictures.

        There are none of what the base does not generate, or generates only from other records.
        Samples of later steps are removed from the folder: a resumed run generates them again.
        """
        count, prompts = corpus.config.train.samples, list[Prompt]()
        for name, mixed in corpus.config.data.sources.items():
            space = mixed.modality
            if not _generates(base, space):
                continue
            if (grid := base.usage.grids.get(space)) is not None:
                prompts += [Prompt(name, space, None)] * (count * (math.prod(grid) <= LARGEST))
                continue
            records = held_out(corpus, codecs, space, lambda n: range(min(n, count)))
            for record in records:
                values = record.sample.values[:GIVEN]
                text = codecs[space].decode(values, (len(values),))
                if record.source == name and isinstance(text, str):
                    prompts.append(Prompt(name, space, text))
        rewrite(folder / FILE, lambda row: row["step"] <= step)
        return cls(folder / FILE, prompts)

    def draw(self, current: Callable[[], Base], step: int, say: Callable[[str], None]) -> None:
        """Generate from every prompt with the current base; append what it generates to the file.

        Training goes on where that fails, and `say` is given the reason.
        """
        if not self.prompts:
            return
        try:
            rows = [{"step": step, **row} for row in self._rows(current())]
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        except (BroadbaseError, OSError) as error:
            say(f"step {step:>6}  no samples: {error}")

    def _rows(self, base: Base) -> Iterator[dict[str, Any]]:
        for (source, space), group in groupby(self.prompts, lambda prompt: prompt[:2]):
            given = [prompt.text for prompt in group]
            outputs = base.generate_batch(given, modality=space, max_new_tokens=NEW)
            for prompt, output in zip(given, outputs, strict=True):
                made = {"picture": _png(output)} if prompt is None else {"text": output}
                yield {"source": source, "prompt": prompt or "", **made}


def _generates(base: Base, space: str) -> bool:
    generator = base.usage.generator
    return (
        generator is not None
        and base.usage.conditioning is None
        and base.attention_pattern(space) == generator.attention
    )


def _png(pixels: Any) -> str:
    file = io.BytesIO()
    as_image(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
