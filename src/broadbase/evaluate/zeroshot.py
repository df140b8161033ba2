"""Zero-shot classification of held-out images by words alone (Radford et al. 2021, section 3.1).

A class is the mean of the vectors of several wordings of its label, none of which is a training
text; an image is of the class whose vector is nearest. Nothing is learned from labels.

Legend: M held-out images, C classes, K dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from broadbase.evaluate.records import paired_records
from broadbase.evaluate.registry import Measure
from broadbase.evaluate.retrieval import PAIRS, vectors
from broadbase.evidence.comparison import MODEL, Comparison, Metric, compare
from broadbase.inference.base import Base
from broadbase.inference.ensembles import joint_ensemble
from broadbase.objectives.contrastive import PairsConfig
from broadbase.run.run import Run

WORDINGS = ("{}", "a picture of {}", "a drawing: {}", "this belongs to {}")
MOST_CLASSES = 100
ACCURACY = Metric("zero-shot accuracy", "higher")
BALANCED = Metric("zero-shot balanced accuracy", "higher")


def zeroshot(run: Run, base: Base, config: PairsConfig) -> Iterator[Comparison]:
    """Compare accuracy with the same model untrained and with the most frequent class.

    Balanced accuracy too, the mean of the accuracies by class (Radford et al. 2021, table 9).
    Yields nothing where records have no labels, or a label no wording that is not a training text.
    """
    records = paired_records(run, config.first.source, "validation")[:PAIRS]
    labels = [str(record.label) for record in records]
    classes = sorted(set(labels))
    if any(record.label is None for record in records) or not 2 <= len(classes) <= MOST_CLASSES:
        return
    texts = {record.raw for record in paired_records(run, config.second.source, "train")}
    wordings = [[w for w in _wordings(label) if w not in texts] for label in classes]
    if not all(wordings):
        return
    count = Counter(labels)
    frequent = count.most_common(1)[0][0]
    predictions = {
        MODEL: _classify(run, base, config, wordings),
        "random init": _classify(run, base.reinitialised(0), config, wordings),
        "most frequent class": [classes.index(frequent)] * len(labels),
    }
    correct = {
        name: [classes[i] for i in ids] == np.array(labels) for name, ids in predictions.items()
    }
    balance = np.array([len(labels) / len(classes) / count[label] for label in labels])
    for metric, weight in ((ACCURACY, np.ones(len(labels))), (BALANCED, balance)):
        hits = {name: (each * weight)[:, None].tolist() for name, each in correct.items()}
        yield from compare(config.first.source, metric, hits)


def _wordings(label: str) -> list[str]:
    """Return a label in several wordings: "food-drink" is food and drink."""
    return [wording.format(label.replace("-", " and ").replace("_", " ")) for wording in WORDINGS]


@torch.inference_mode()
def _classify(
    run: Run, base: Base, config: PairsConfig, wordings: Sequence[Sequence[str]]
) -> list[int]:
    """Return the index of the class of each held-out image."""
    first_MK, _ = vectors(run, base, config)
    space, head = run.config.data.sources[config.second.source].modality, config.second.joint
    mean_CK = torch.stack([joint_ensemble(base, each, head, space) for each in wordings])
    return np.argmax((first_MK @ mean_CK.T).numpy(), axis=1).tolist()  # type: ignore[no-any-return]


MEASURE = Measure((PairsConfig,), zeroshot)
