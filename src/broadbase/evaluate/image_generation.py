"""Images generated for the words of held-out records, judged by a classifier trained on real ones.

The classifier is a small network on pixels, fitted to the training records' images (as they are,
not as codes). It says how often a generated image is of the class of its prompt; the Fréchet
distance between generated and training images is taken in its features (Heusel et al. 2017, eq. 6).

Legend: M images, P numbers of an image, F features, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier

from broadbase.core.codec import Codec
from broadbase.core.errors import ConfigError
from broadbase.evaluate.records import paired_records
from broadbase.evaluate.registry import Measure
from broadbase.evidence.comparison import MODEL, Comparison, Metric, compare
from broadbase.evidence.interval import bootstrap_interval
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.modalities.bytes import BytesConfig
from broadbase.modalities.codes import CodesCodec, CodesConfig
from broadbase.objectives.conditional import ConditionalConfig
from broadbase.run.run import Run

MOST_CLASSES = 64  # more words than these are names, whose images may have labels
FEATURES, EPOCHS = 64, 40  # of the classifier
IMAGES = 500  # generated, for the first held-out records
RESAMPLES = 200  # of the generated images, for the interval of the distance
ACCURACY = Metric("accuracy of generated images", "higher")
DISTANCE = Metric("Fréchet distance", "lower")

Array = NDArray[np.float64]


class RealImages(NamedTuple):
    """Real images with the words that the model is given and their labels."""

    images: Array  # [M,P]
    words: list[str]
    labels: list[str | None]


def generated_images(run: Run, base: Base, config: ConditionalConfig) -> Iterator[Comparison]:
    """Compare with images for other prompts, codes sampled by their frequency, and real images."""
    training, tested = (_real_images(run, base, config, side) for side in ("train", "validation"))
    classes, prompted = classes_of(training, tested)
    classifier = MLPClassifier((FEATURES,), max_iter=EPOCHS, early_stopping=True, random_state=0)
    classifier.fit(training.images, classes)
    images = {
        MODEL: _generated(run, base, config, tested.words[:IMAGES]),
        "codes sampled by frequency": _by_frequency(run, base, config, len(prompted)),
        "real images": tested.images[:IMAGES],
        "real images through the codes": _reconstructed(run, base, config),
    }
    hits = {
        name: [[float(hit)] for hit in classifier.predict(x) == prompted]
        for name, x in images.items()
    }
    shuffled = classifier.predict(images[MODEL]) == np.roll(prompted, 1)
    hits["another record's prompt"] = [[float(hit)] for hit in shuffled]
    yield from compare(config.target, ACCURACY, hits)
    yield from _distances(config.target, classifier, training.images, images)


def classes_of(training: RealImages, tested: RealImages) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the classes of the training images and of the first held-out ones.

    These are their words or, where the words are names, the labels of their records. ConfigError
    where neither are few enough.
    """
    for fitted, prompted in (
        (training.words, tested.words),
        (training.labels, tested.labels),
    ):
        if len(set(fitted)) <= MOST_CLASSES and None not in fitted:
            return np.array(fitted), np.array(prompted[:IMAGES])
    raise ConfigError(
        f"the images have {len(set(training.words))} different words and"
        f" {len(set(training.labels) - {None})} different labels; generated images can be judged"
        f" where either are at most {MOST_CLASSES} classes"
    )


def _distances(
    source: str, classifier: MLPClassifier, real: Array, images: Mapping[str, Array]
) -> Iterator[Comparison]:
    """Compare Fréchet distances to the training images; the interval is over resampled images."""
    features = {name: _features(classifier, x) for name, x in images.items()}
    reference, rng = _features(classifier, real), np.random.default_rng(0)
    size = len(features[MODEL])
    resamples = [rng.integers(size, size=size) for _ in range(RESAMPLES)]
    distance = {name: frechet(x, reference) for name, x in features.items()}
    resampled = {
        name: np.array([frechet(x[i], reference) for i in resamples])
        for name, x in features.items()
    }
    for name in (name for name in features if name != MODEL):
        gap = distance[MODEL] - distance[name]
        interval = bootstrap_interval(gap, resampled[MODEL] - resampled[name])
        yield Comparison(source, DISTANCE, name, size, distance[MODEL], distance[name], interval)


def frechet(one: Array, other: Array) -> float:
    """Return the Fréchet distance of two sets of features [M,F] as normal distributions."""
    a, b = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    mean = np.square(one.mean(axis=0) - other.mean(axis=0)).sum()
    root = np.sqrt(np.clip(np.linalg.eigvals(a @ b).real, 0, None)).sum()  # trace of (ab)^(1/2)
    return float(mean + np.trace(a) + np.trace(b) - 2 * root)


def _features(classifier: MLPClassifier, images: Array) -> Array:
    features: Array = np.maximum(images @ classifier.coefs_[0] + classifier.intercepts_[0], 0)
    return features


def _real_images(run: Run, base: Base, config: ConditionalConfig, side: str) -> RealImages:
    """Return the images of a side of the split, in the order of its rows."""
    records = paired_records(run, config.target, side)
    rows = run.rows(side)[config.source]
    codec = base.codecs[run.config.data.sources[config.source].modality]
    return RealImages(
        _vectors(_codec(run, base, config), [record.raw for record in records]),
        [_text(codec, rows[i].values) for i in range(len(rows))],
        [record.label for record in records],
    )


def _text(codec: Codec, values_T: NDArray[Any]) -> str:
    """Return the words between a row's start and its end."""
    ends = np.flatnonzero(values_T == codec.end)
    inside = values_T[1 : ends[0]] if len(ends) else values_T[1:]
    return str(codec.decode(inside, (len(inside),)))


def _codec(run: Run, base: Base, config: ConditionalConfig) -> CodesCodec:
    codec = base.codecs[run.config.data.sources[config.target].modality]
    assert isinstance(codec, CodesCodec)
    return codec


def _vectors(codec: CodesCodec, images: Sequence[Any]) -> Array:
    """Return the numbers of every image, as the tokenizer takes them: [M,P]."""
    encoded = (codec.autoencoder.codec.encode(image).values for image in images)
    return np.stack([values.ravel() for values in encoded]).astype(np.float64)


def _decoded(codec: CodesCodec, ids_MT: NDArray[Any], grid: tuple[int, ...]) -> Array:
    """Return the numbers that the tokenizer decodes codes to: [M,P]."""
    return _clipped(codec, [codec.decode(ids_T, grid) for ids_T in ids_MT])


def _clipped(codec: CodesCodec, images: Sequence[Any]) -> Array:
    """Return the numbers of images clipped to [0, 1], as a screen shows them: [M,P]."""
    return _vectors(codec, [np.clip(image, 0, 1) for image in images])


def _generated(run: Run, base: Base, config: ConditionalConfig, words: Sequence[str]) -> Array:
    """Return an image for each of the words."""
    images = base.generate_batch(words, sampling=SamplingConfig(seed=0), batch=len(words))
    return _clipped(_codec(run, base, config), images)


def _by_frequency(run: Run, base: Base, config: ConditionalConfig, size: int) -> Array:
    """Return images whose codes are sampled, by position, from those of the training records."""
    split, rng = run.stores[config.target].split("train"), np.random.default_rng(0)
    documents = rng.integers(len(split), size=(size, int(split.lengths[0])))
    ids = [[split.document(d)[t] for t, d in enumerate(row)] for row in documents]
    return _decoded(_codec(run, base, config), np.array(ids), _grid(run, config))


def _reconstructed(run: Run, base: Base, config: ConditionalConfig) -> Array:
    """Return the first held-out records' codes, decoded: the best that generation can reach."""
    rows = run.rows("validation")[config.target]
    ids_MT = np.stack([rows[i].values[1:] for i in range(min(len(rows), IMAGES))])
    return _decoded(_codec(run, base, config), ids_MT, _grid(run, config))


def _grid(run: Run, config: ConditionalConfig) -> tuple[int, ...]:
    """Return the rows and columns of codes, the same for all images."""
    return tuple(int(n) for n in run.stores[config.target].split("train").grids[0])


MEASURE = Measure((ConditionalConfig,), generated_images, modalities=(BytesConfig, CodesConfig))
