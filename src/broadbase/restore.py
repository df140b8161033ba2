"""Restoring what is missing: held-out spans told exactly, hidden patches told closely.

A span counts as told if each of its places is the likeliest one given the true places before it:
that is what greedy decoding would write. Items are spans (patches), the interval is over documents
(pictures), each with the mean over its items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import griddata

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.core.random import Draws
from broadbase.core.view import Read, Segment, Stream, View, positions
from broadbase.data.batches import collate, held_out
from broadbase.evaluate import chunks
from broadbase.model.base import Base
from broadbase.objectives.denoising import InfillingConfig, SpanCorruptionConfig, even_spans
from broadbase.objectives.denoising import poisson_spans as poisson
from broadbase.objectives.documents import Document, assemble, shifted
from broadbase.objectives.fim import MARKS, FillInMiddleConfig, rearranged
from broadbase.objectives.mae import MaskedAutoencoderConfig
from broadbase.run import Run
from broadbase.transfer.compare import paired_interval
from broadbase.transfer.ngram import KneserNey

Spans = Sequence[tuple[int, int]]  # first place and length in the document
DOCUMENTS, PICTURES = 300, 300  # held-out ones that are looked at, the first
SHORTEST, LONGEST, MIDDLES = 8, 4, 4  # places of a document, of a middle; middles of a document


@dataclass(frozen=True)
class Restoration:
    """A base beside one baseline on the same hidden items."""

    source: str
    measure: str
    baseline: str
    items: int
    base: float
    other: float
    difference: float  # base - other
    low: float
    high: float

    def row(self) -> dict[str, Any]:
        """The record as plain values, for JSON."""
        return asdict(self)


class Puzzles(Protocol):
    """How an objective asks for the spans of a document."""

    def __call__(self, document: Document, rng: np.random.Generator) -> tuple[Spans, list[View]]:
        """The spans, and for each a view with one Read of its places, one row, targets given."""
        ...

    def others(self, document: Document, spans: Spans) -> dict[str, list[View]]:
        """Other ways to ask the same base for them, to compare with."""
        ...


def restorations(run: Run, base: Base) -> list[Restoration]:
    """Every source against its baselines; ConfigError for an objective that hides nothing."""
    objective = run.config.objective
    asked: dict[str, Callable[[Run, Base, str], Iterator[Restoration]]] = {
        "fim": _spans,
        "span_corruption": _spans,
        "infilling": _spans,
        "mae": _patches,
    }
    if objective.name not in asked:
        raise ConfigError(
            f"objective {objective.name!r} has nothing to restore; known: {', '.join(asked)}"
        )
    return [
        row
        for source in run.config.data.sources
        for row in asked[objective.name](run, base, source)
    ]


def _spans(run: Run, base: Base, source: str) -> Iterator[Restoration]:
    mixed, validation = run.config.data.sources[source], run.rows("validation")[source]
    space = mixed.modality
    marks = run.config.model.modalities[space].corruption().marks
    puzzles = PUZZLES[run.config.objective.name](run.config.objective, space, marks)
    texts = chunks(collate(run.seen(source), space, validation.plain))
    size = marks.start or int(max(text.max() for text in texts)) + 1
    grams = {
        "unigram": KneserNey.fit(texts, 1, size),
        "5-gram, rows seen": KneserNey.fit(texts, 5, size),
    }
    found: dict[str, list[list[bool]]] = {}
    held = (c for s in held_out(validation, space, mixed.rows) for c in chunks(s))
    wanted = [text for text in held if len(text) >= SHORTEST][:DOCUMENTS]
    for number, text in enumerate(wanted):
        values = torch.from_numpy(text)
        document = Document(values, torch.ones(len(values)))
        spans, views = puzzles(document, Draws(0, 0).generator("restore", number))
        told: dict[str, list[bool]] = {"base": [_told(base, view) for view in views]}
        for name, gram in grams.items():
            told[name] = [_likeliest(gram, text, *span) for span in spans]
        for name, asked in puzzles.others(document, spans).items():
            told[f"base, {name}"] = [_told(base, view) for view in asked]
        for name, right in told.items():
            found.setdefault(name, []).append(right)
    yield from _compared(source, "exact spans", found)


def _compared(
    source: str, measure: str, found: dict[str, list[list[Any]]]
) -> Iterator[Restoration]:
    own = [float(np.mean(items)) for items in found["base"]]
    for name, each in found.items():
        if name != "base":
            other = [float(np.mean(items)) for items in each]
            yield Restoration(
                source,
                measure,
                name,
                sum(map(len, each)),
                float(np.mean(own)),
                float(np.mean(other)),
                *paired_interval(own, other),
            )


@torch.inference_mode()
def _told(base: Base, view: View) -> bool:
    """Whether every place that the view's one Read asks for is the likeliest."""
    (read,) = view.reads
    streams = [
        Stream(
            **{**vars(s), "reads": tuple(Read(r.space, "p", None, None, r.index) for r in s.reads)}
        )
        for s in view.streams
    ]
    predicted = base.model(View(tuple(streams))).predictions["p"]
    assert read.values is not None
    return bool((predicted.argmax(dim=-1) == read.values).all())


def _asked(view: View) -> View:
    """The same view with its one Read's targets left out: it predicts and scores nothing."""

    def without(stream: Stream) -> Stream:
        reads = tuple(Read(read.space, "p", index=read.index) for read in stream.reads)
        return replace(stream, reads=reads)

    return View(tuple(without(stream) for stream in view.streams))


def _likeliest(gram: KneserNey, text: NDArray[Any], first: int, length: int) -> bool:
    return all(
        int(gram.following(text[:place]).argmax()) == text[place]
        for place in range(first, first + length)
    )


class _Spans:
    def __init__(self, config: ObjectiveConfig, space: str, marks: range) -> None:
        self.config: Any = config
        self.space, self.marks = space, marks

    def others(self, document: Document, spans: Spans) -> dict[str, list[View]]:
        """None."""
        return {}

    def one(self, document: Document) -> Segment:
        """A row of one document."""
        return assemble(self.space, [[document]], places=len(document))

    def read(self, places: Sequence[int], values: torch.Tensor) -> Read:
        """The targets at some places of a causal stream, each read one place before."""
        index = torch.tensor([places]) - 1
        return Read(self.space, "p", values[None, list(places)], torch.ones(index.shape), index)


class Middles(_Spans):
    """FIM: prefix and suffix are given, the middle follows; suffix first, or prefix first."""

    config: FillInMiddleConfig

    def __call__(self, document: Document, rng: np.random.Generator) -> tuple[Spans, list[View]]:
        n, spans = len(document), []
        for _ in range(MIDDLES):
            length = int(rng.integers(1, LONGEST + 1))
            spans.append((int(rng.integers(1, n - length)), length))
        return spans, [self.view(document, span, suffix_first=True) for span in spans]

    def others(self, document: Document, spans: Spans) -> dict[str, list[View]]:
        """With the prefix before the suffix, and without the suffix."""
        return {
            "prefix first": [self.view(document, span, suffix_first=False) for span in spans],
            "prefix only": [self.causal(document, range(a, a + n)) for a, n in spans],
        }

    def view(self, document: Document, span: tuple[int, int], *, suffix_first: bool) -> View:
        """The document rearranged, its middle read."""
        (first, length), last = span, len(document) - 1
        marks = self.marks[:MARKS]
        moved = rearranged(document, first, first + length, last, marks, suffix_first=suffix_first)
        end = len(moved) - (len(document) - last)
        return self.causal(moved, range(end - length, end))

    def causal(self, document: Document, places: range) -> View:
        """One stream, some of its places read."""
        seen, _, _ = shifted(self.one(document))
        read = self.read(places, document.values)
        return View((Stream("main", self.config.tower, (seen,), "causal", reads=(read,)),))


class Sentinels(_Spans):
    """T5: the decoder tells span after span, each after its mark."""

    config: SpanCorruptionConfig

    def __call__(self, document: Document, rng: np.random.Generator) -> tuple[Spans, list[View]]:
        state = rng.bit_generator.state
        c = self.config
        spans = [(a + 1, n) for a, n in even_spans(len(document) - 1, c.share, c.mean, rng)]
        rng.bit_generator.state = state  # the same spans once more, as the objective draws them
        given, told = c.build().pair(document, self.marks, self.one(document), rng)  # type: ignore[attr-defined]
        views, at = [], 1
        for _, length in spans:
            views.append(self.decoded(given, told, range(at + 1, at + 1 + length)))
            at += 1 + length
        return spans, views

    def decoded(self, given: Document, told: Document, places: range) -> View:
        """The encoder's stream, and the decoder's with some of its places read."""
        seen, _, _ = shifted(self.one(told))
        read = self.read(places, told.values)
        c = self.config
        encoder = Stream("encoder", c.encoder, (self.one(given),))
        return View(
            (encoder, Stream("decoder", c.decoder, (seen,), "causal", "encoder", reads=(read,)))
        )


class Holes(Sentinels):
    """BART: the decoder tells the whole document; its spans of length 0 ask nothing."""

    def __call__(self, document: Document, rng: np.random.Generator) -> tuple[Spans, list[View]]:
        state = rng.bit_generator.state
        c = self.config
        spans = [(a + 1, n) for a, n in poisson(len(document) - 1, c.share, c.mean, rng) if n]
        rng.bit_generator.state = state
        given, told = c.build().pair(document, self.marks, self.one(document), rng)  # type: ignore[attr-defined]
        return spans, [self.decoded(given, told, range(a, a + n)) for a, n in spans]


PUZZLES: dict[str, Callable[[ObjectiveConfig, str, range], Puzzles]] = {
    FillInMiddleConfig().name: Middles,
    SpanCorruptionConfig().name: Sentinels,
    InfillingConfig().name: Holes,
}


@torch.inference_mode()
def _patches(run: Run, base: Base, source: str) -> Iterator[Restoration]:
    """Squared error of hidden pixels, beside bilinear filling and the mean of the seen."""
    config, mixed = run.config.objective, run.config.data.sources[source]
    assert isinstance(config, MaskedAutoencoderConfig)
    target: Any = run.config.model.modalities[config.target]
    if target.normalise:
        raise ConfigError(
            "this base tells patches brought to mean 0 and variance 1, which no picture can be"
            f" filled with; train with --set model.modalities.{config.target}.normalise=false"
        )
    image: Any = run.config.model.modalities[mixed.modality]
    found: dict[str, list[list[float]]] = {"base": [], "bilinear": [], "mean of the seen": []}
    for segment in held_out(run.rows("validation")[source], mixed.modality, 64):
        batch = Batch(0, {source: segment}, Draws(0, len(found["base"])))
        (view,) = config.build().views(batch, {})
        (read,) = view.reads
        assert read.values is not None
        encoder, decoder = view.streams
        told = base.model(_asked(view)).predictions["p"]
        error = (told - read.values).square().mean(dim=-1)
        seen, hidden = encoder.segments[0], decoder.segments[1]
        assert seen.values is not None
        for b in range(len(error)):
            if len(found["base"]) == PICTURES:
                break
            inside = seen.position[b, :, 1] > 0  # not the start
            filled = bilinear(
                seen.values[b, inside].numpy(),
                seen.position[b, inside, 1:].numpy() - 1,
                hidden.position[b, :, 1:].numpy() - 1,
                image.patch,
                image.channels,
            )
            truth = read.values[b].numpy()
            found["base"].append(error[b].tolist())
            found["bilinear"].append(((filled - truth) ** 2).mean(axis=1).tolist())
            mean = float(seen.values[b, inside].mean())
            found["mean of the seen"].append(((mean - truth) ** 2).mean(axis=1).tolist())
    yield from _compared(source, "squared error", found)


def bilinear(
    values: NDArray[Any], places: NDArray[Any], wanted: NDArray[Any], patch: int, channels: int
) -> NDArray[Any]:
    """Hidden patches [S,K] from the pixels of the seen ones [V,K] around them.

    Linear between the nearest seen pixels (on their Delaunay triangles), the nearest one outside.
    """
    offsets = positions((patch, patch)).numpy()[:, 1:]
    points = (places[:, None] * patch + offsets).reshape(-1, 2)
    asked = (wanted[:, None] * patch + offsets).reshape(-1, 2)
    pixels = values.reshape(-1, channels)
    linear = griddata(points, pixels, asked, method="linear")
    nearest = griddata(points, pixels, asked, method="nearest")
    filled: NDArray[Any] = np.where(np.isnan(linear), nearest, linear)
    return filled.reshape(len(wanted), -1)
