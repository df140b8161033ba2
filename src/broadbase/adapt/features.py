"""What the field does without pretraining: hand-made features, and the same linear model on them.

A feature that learns anything (a vocabulary, a scale) learns it from the training records alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from sklearn.decomposition import PCA
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from broadbase.adapt.reading import as_seen
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Outputs
from broadbase.adapt.task import Task
from broadbase.core.codec import Codec
from broadbase.core.errors import DataError
from broadbase.core.extras import chemistry, require_extra
from broadbase.core.plugins import plugins
from broadbase.modalities.audio import AudioConfig

TEXTS = ("text", "code", "bytes")  # modalities
COMPONENTS = 50  # of expression
WINDOW = 17  # residues around the predicted one (Garnier, Osguthorpe & Robson 1978, GOR)

Scorer = Callable[[Indices, Indices, int], float]  # train, test, seed -> score
Predictor = Callable[[Indices, Indices], Outputs]  # train, test -> outputs for the test
Make = Callable[[Task], Pipeline]  # an unfitted model
Inputs = Callable[[Task], NDArray[Any]]
Baselines = Mapping[str, Mapping[str, tuple[Inputs, Make]]]  # modality -> name


def classical(
    task: Task, choice: Baselines | None = None, codec: Codec | None = None
) -> dict[str, Scorer]:
    """Return the scores of the baselines of a task's modality by name, as `predictors`."""
    return {name: _scorer(task, each) for name, each in predictors(task, choice, codec).items()}


def predictors(
    task: Task, choice: Baselines | None = None, codec: Codec | None = None
) -> dict[str, Predictor]:
    """Return the baselines of a task's modality by name, each fitted anew for every split.

    They see what `codec` makes of the records, as a base does; without one, the records.
    `choice` are those to choose from; by default the linear models and forests, and those from
    outside (`broadbase.baselines`, or a BASELINES).
    """
    tables = [BASELINES, *plugins("baselines", "BASELINES")] if choice is None else [choice]
    models = {k: v for table in tables for k, v in table.get(task.modality, {}).items()}
    task = task if codec is None or not models else as_seen(codec, task)
    features = {inputs: inputs(task) for inputs in {inputs for inputs, _ in models.values()}}
    return {n: _predictor(task, features[inputs], make) for n, (inputs, make) in models.items()}


def _predictor(task: Task, inputs: NDArray[Any], make: Make) -> Predictor:
    def predict(train: Indices, test: Indices) -> Outputs:
        model = make(task).fit(inputs[train], task.labels[train])
        return task.target.outputs(model, inputs[test])

    return predict


def _scorer(task: Task, predict: Predictor) -> Scorer:
    return lambda train, test, _: task.score(predict(train, test), test)


def raw_records(task: Task) -> NDArray[Any]:
    """Return the records as they are, [M]."""
    return np.fromiter(task.raws, dtype=object, count=len(task.raws))


def _pixels(task: Task) -> NDArray[np.float64]:
    return np.stack([np.asarray(raw, dtype=np.float64).ravel() for raw in task.raws])


def _morgan(task: Task) -> NDArray[np.float64]:
    """Count circular substructures, radius 2, in 2,048 bins (Rogers & Hahn 2010)."""
    generators = require_extra(
        "rdkit.Chem.rdFingerprintGenerator", "chemistry", "Morgan fingerprints"
    )
    make = generators.GetMorganGenerator(radius=2, fpSize=2048)
    counts = [make.GetCountFingerprintAsNumPy(m).astype(np.float64) for m in _molecules(task)]
    return np.stack(counts)


def _descriptors(task: Task) -> NDArray[np.float64]:
    """RDKit's physico-chemical descriptors; what is not finite is 0."""
    table = require_extra("rdkit.Chem.Descriptors", "chemistry", "descriptors")
    rows = [list(table.CalcMolDescriptors(m).values()) for m in _molecules(task)]
    values = np.array(rows, dtype=np.float64)
    return np.clip(np.where(np.isfinite(values), values, 0), -1e6, 1e6)


def _molecules(task: Task) -> Iterator[Any]:
    """RDKit's molecules; DataError names what is none."""
    for i, raw in enumerate(task.raws):
        molecule = chemistry().MolFromSmiles(raw)
        if molecule is None:
            raise DataError(f"task {task.name!r}: record {i} is no molecule: {raw[:80]!r}")
        yield molecule


def _genes(raw: Any) -> Mapping[str, float]:
    """Return a cell's counts by gene, however they are kept."""
    if isinstance(raw, Mapping):
        return raw
    return {gene.decode(): float(count) for gene, count in raw}


def _expression(task: Task) -> NDArray[np.float64]:
    """Log-normalised counts of genes: log(1 + 10,000 times a gene's share of its cell)."""
    counts = DictVectorizer(sparse=False).fit_transform(list(map(_genes, task.raws)))
    logs: NDArray[np.float64] = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    return logs


def _components(task: Task) -> NDArray[np.float64]:
    """Principal components of that: of all records, as a base too may have seen them unlabelled."""
    expression = _expression(task)
    components: NDArray[np.float64] = PCA(
        min(COMPONENTS, *expression.shape), random_state=0
    ).fit_transform(expression)
    return components


def _logmel(task: Task) -> NDArray[np.float64]:
    """Mean and deviation over time of every log-mel band, and of its change from frame to frame."""
    codec = AudioConfig(patch=1).fit(())
    return np.stack([_moments(codec.encode(raw).values) for raw in task.raws])


def _mfcc(task: Task) -> NDArray[np.float64]:
    """Compute the same of 20 cepstral coefficients of the log-mel (Davis & Mermelstein 1980)."""
    codec = AudioConfig(patch=1).fit(())
    return np.stack([_moments(dct(codec.encode(raw).values)[:, :20]) for raw in task.raws])


def _moments(frames: NDArray[Any]) -> NDArray[np.float64]:
    change = np.diff(frames, axis=0, prepend=frames[:1])
    parts = [each for part in (frames, change) for each in (part.mean(axis=0), part.std(axis=0))]
    return np.concatenate(parts).astype(np.float64)


def _window(task: Task) -> NDArray[np.float64]:
    """Encode the letter, or none, at each position of a window around the labelled token."""
    assert task.token_labels is not None
    half, letters = WINDOW // 2, sorted({letter for raw in task.raws for letter in raw})
    codes = [np.array([letters.index(letter) for letter in raw]) for raw in task.raws]
    ends = [np.pad(code, half, constant_values=len(letters)) for code in codes]
    near = [np.lib.stride_tricks.sliding_window_view(code, WINDOW) for code in ends]
    codes_near: NDArray[np.float64] = np.eye(len(letters) + 1)[np.concatenate(near)]
    return codes_near.reshape(len(task.token_labels), -1)


def characters() -> TfidfVectorizer:
    """Return TF-IDF of 1 to 4 characters."""
    return TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True, lowercase=False)


def _tfidf(task: Task) -> Pipeline:
    return make_pipeline(characters(), task.target.ridge())


def _nearest_tfidf(task: Task) -> Pipeline:
    return make_pipeline(characters(), task.target.neighbours())


def _kmers(task: Task) -> Pipeline:
    kmers = CountVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False)
    return make_pipeline(kmers, MaxAbsScaler(), task.target.ridge())


def _linear(task: Task) -> Pipeline:
    return make_pipeline(StandardScaler(), task.target.ridge())


def _logistic(task: Task) -> Pipeline:
    return make_pipeline(StandardScaler(), task.target.logistic())


def _nearest(task: Task) -> Pipeline:
    return make_pipeline(task.target.neighbours())


def _nearest_scaled(task: Task) -> Pipeline:
    return make_pipeline(StandardScaler(), task.target.neighbours())


def _forest(task: Task) -> Pipeline:
    return make_pipeline(task.target.forest())


BASELINES: Baselines = {
    "text": {"TF-IDF of characters": (raw_records, _tfidf)},
    "code": {"TF-IDF of characters": (raw_records, _tfidf)},
    "bytes": {"TF-IDF of characters": (raw_records, _tfidf)},
    "image": {"pixels": (_pixels, _linear)},
    "audio": {"log-mel": (_logmel, _linear), "MFCC": (_mfcc, _linear)},
    "cell": {
        "PCA, logistic": (_components, _logistic),
        "PCA, ridge": (_components, _linear),
        "expression, ridge": (_expression, _linear),
    },
    "video": {"pixels": (_pixels, _linear)},
    "protein": {"3-mers": (raw_records, _kmers)},
    "molecule": {
        "Morgan": (_morgan, _linear),
        "descriptors": (_descriptors, _linear),
        "descriptors, forest": (_descriptors, _forest),
        "TF-IDF of characters": (raw_records, _tfidf),
    },
}
NEAREST: Baselines = {  # what a base's vectors are held against as neighbours
    **{kind: {"TF-IDF of characters": (raw_records, _nearest_tfidf)} for kind in TEXTS},
    "image": {"pixels": (_pixels, _nearest), "pixels, standardised": (_pixels, _nearest_scaled)},
    "molecule": {
        "Morgan": (_morgan, _nearest),
        "TF-IDF of characters": (raw_records, _nearest_tfidf),
    },
}
PER_TOKEN: Baselines = {  # of tasks that label tokens
    "protein": {
        "window of 17, logistic": (_window, _logistic),
        "window of 17, ridge": (_window, _linear),
    },
}
