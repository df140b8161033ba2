"""Pictures drawn for the words of held-out records, judged by a classifier that is not the base's.

The classifier is a small network on pixels, taught on the training records' pictures (as they are,
not as codes). It says how often a drawing is of the class that was asked for; the Fréchet distance
between drawings and training pictures is taken in its features (Heusel et al. 2017, eq. 6).

Legend: M pictures, P numbers of a picture, F features, T places of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier

from broadbase.core.contracts import Codec
from broadbase.core.errors import ConfigError
from broadbase.evaluate.records import paired_records
from broadbase.evaluate.registry import Measure, Measured, compared
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.modalities.bytes import BytesConfig
from broadbase.modalities.codes import CodesCodec, CodesConfig
from broadbase.objectives.conditional import GivenConfig
from broadbase.run.run import Run

MOST = 64  # classes; more words than these are names, whose pictures have labels perhaps
FEATURES, EPOCHS = 64, 40
PICTURES = 500  # drawn, for the first held-out records
RESAMPLES = 200  # of the drawings, for the interval of the distance

Array = NDArray[np.float64]


class Real(NamedTuple):
    """Real pictures."""

    pictures: Array  # [M,P]
    words: list[str]  # that the base is given
    labels: list[str | None]


def drawn(run: Run, base: Base) -> Iterator[Measured]:
    """Beside drawings for another's words, codes drawn by their frequency, and real pictures."""
    config = run.config.objective
    assert isinstance(config, GivenConfig)
    known, held = (_real(run, base, config, side) for side in ("train", "validation"))
    classes, asked = classes_of(known, held)
    judge = MLPClassifier((FEATURES,), max_iter=EPOCHS, early_stopping=True, random_state=0)
    judge.fit(known.pictures, classes)
    kinds = {
        "base": _drawings(run, base, config, held.words[:PICTURES]),
        "codes by their frequency": _by_frequency(run, base, config, len(asked)),
        "real pictures": held.pictures[:PICTURES],
        "real pictures through the codes": _through(run, base, config),
    }
    hits = {name: [[float(hit)] for hit in judge.predict(x) == asked] for name, x in kinds.items()}
    other = judge.predict(kinds["base"]) == np.roll(asked, 1)
    hits["drawn for another"] = [[float(hit)] for hit in other]
    yield from compared(config.told, "class of a drawing", hits)
    yield from _distances(config.told, judge, known.pictures, kinds)


def classes_of(known: Real, held: Real) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the judge is taught, and what the first held-out pictures are: their words, or where
    these are names, the labels of their records."""
    for teach, asked in ((known.words, held.words), (known.labels, held.labels)):
        if len(set(teach)) <= MOST and None not in teach:
            return np.array(teach), np.array(asked[:PICTURES])
    raise ConfigError(
        f"{len(set(known.words))} different words are given to the pictures, which have"
        f" {len(set(known.labels) - {None})} labels: drawings are judged where either are at most"
        f" {MOST} classes"
    )


def _distances(
    source: str, judge: MLPClassifier, real: Array, kinds: Mapping[str, Array]
) -> Iterator[Measured]:
    """Fréchet distances to the training pictures; the interval is over resampled pictures."""
    states = {name: _features(judge, x) for name, x in kinds.items()}
    truth, rng = _features(judge, real), np.random.default_rng(0)
    size = len(states["base"])
    chosen = [rng.integers(size, size=size) for _ in range(RESAMPLES)]
    values = {name: frechet(x, truth) for name, x in states.items()}
    spread = {name: [frechet(x[i], truth) for i in chosen] for name, x in states.items()}
    for name in (name for name in states if name != "base"):
        gaps = np.array(spread["base"]) - np.array(spread[name])
        gap = values["base"] - values[name]
        low, high = gap + np.quantile(gaps - gaps.mean(), [0.025, 0.975])
        yield Measured(
            source, "Fréchet distance", name, size, values["base"], values[name], gap, low, high
        )


def frechet(one: Array, other: Array) -> float:
    """Between two sets of features [M,F] as normal distributions."""
    a, b = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    mean = np.square(one.mean(axis=0) - other.mean(axis=0)).sum()
    root = np.sqrt(np.clip(np.linalg.eigvals(a @ b).real, 0, None)).sum()  # trace of (ab)^(1/2)
    return float(mean + np.trace(a) + np.trace(b) - 2 * root)


def _features(judge: MLPClassifier, pictures: Array) -> Array:
    hidden: Array = np.maximum(pictures @ judge.coefs_[0] + judge.intercepts_[0], 0)
    return hidden


def _real(run: Run, base: Base, config: GivenConfig, side: str) -> Real:
    """The pictures of a side, in the order of its rows."""
    records = paired_records(run, config.told, side)
    rows = run.rows(side)[config.given]
    codec = base.codecs[run.config.data.sources[config.given].modality]
    return Real(
        _vectors(_codec(run, base, config), [record.raw for record in records]),
        [_text(codec, rows[i].values) for i in range(len(rows))],
        [record.label for record in records],
    )


def _text(codec: Codec, values_T: NDArray[Any]) -> str:
    """The words between a row's start and its end."""
    ends = np.flatnonzero(values_T == codec.end)
    kept = values_T[1 : ends[0]] if len(ends) else values_T[1:]
    return str(codec.decode(kept, (len(kept),)))


def _codec(run: Run, base: Base, config: GivenConfig) -> CodesCodec:
    codec = base.codecs[run.config.data.sources[config.told].modality]
    assert isinstance(codec, CodesCodec)
    return codec


def _vectors(codec: CodesCodec, pictures: Sequence[Any]) -> Array:
    """Every picture's numbers, as the tokenizer takes them: [M,P]."""
    encoded = (codec.tokenizer.codec.encode(picture).values for picture in pictures)
    return np.stack([values.ravel() for values in encoded]).astype(np.float64)


def _decoded(codec: CodesCodec, ids_MT: NDArray[Any], grid: tuple[int, ...]) -> Array:
    """What the tokenizer makes of codes, as numbers: [M,P]."""
    return _shown(codec, [codec.decode(ids_T, grid) for ids_T in ids_MT])


def _shown(codec: CodesCodec, pictures: Sequence[Any]) -> Array:
    """As a screen shows them, from 0 to 1: [M,P]."""
    return _vectors(codec, [np.clip(each, 0, 1) for each in pictures])


def _drawings(run: Run, base: Base, config: GivenConfig, words: Sequence[str]) -> Array:
    """A drawing for each of the words."""
    mixed, ask = run.config.data.sources, config.build().prompt
    given, told = mixed[config.given].modality, mixed[config.told].modality
    sampling, grid = SamplingConfig(seed=0), _grid(run, config)
    found = base.answers(ask, words, given=given, told=told, grid=grid, sampling=sampling)
    return _shown(_codec(run, base, config), found)


def _by_frequency(run: Run, base: Base, config: GivenConfig, size: int) -> Array:
    """Each place's code drawn from the codes that the training records have there."""
    split, rng = run.stores[config.told].split("train"), np.random.default_rng(0)
    chosen = rng.integers(len(split), size=(size, int(split.lengths[0])))
    ids = [[split.document(d)[place] for place, d in enumerate(row)] for row in chosen]
    return _decoded(_codec(run, base, config), np.array(ids), _grid(run, config))


def _through(run: Run, base: Base, config: GivenConfig) -> Array:
    """The first held-out records' own codes, decoded: what drawing can reach at best."""
    rows = run.rows("validation")[config.told]
    ids_MT = np.stack([rows[i].values[1:] for i in range(min(len(rows), PICTURES))])
    return _decoded(_codec(run, base, config), ids_MT, _grid(run, config))


def _grid(run: Run, config: GivenConfig) -> tuple[int, ...]:
    """Rows and columns of codes, the same of all pictures."""
    return tuple(int(n) for n in run.stores[config.told].split("train").grids[0])


MEASURE = Measure((GivenConfig,), drawn, modalities=(BytesConfig, CodesConfig))
