"""Zero-shot: held-out pictures classed by words alone (Radford et al. 2021, 3.1).

A class is the mean of the vectors of several wordings of its label, none of which is a training
text; a picture is of the class whose vector is nearest. Nothing is learned from labels.

Legend: M held-out pictures, C classes, W wordings of a class, K dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from broadbase.core.view import Read, Stream, View
from broadbase.evaluate.records import paired_records
from broadbase.evaluate.registry import Measure, Measured, compared
from broadbase.evaluate.retrieval import PAIRS, vectors
from broadbase.inference.base import Base
from broadbase.inference.documents import prompts
from broadbase.objectives.contrastive import PairsConfig
from broadbase.run.run import Run

WORDINGS = ("{}", "a picture of {}", "a drawing: {}", "this belongs to {}")
MOST = 100  # classes


def zeroshot(run: Run, base: Base) -> Iterator[Measured]:
    """Beside the same model untrained, and always the commonest class; nothing without labels.

    Per class too (Radford et al. 2021, table 9): each counts alike, however many pictures it has.
    """
    config = run.config.objective
    assert isinstance(config, PairsConfig)
    records = paired_records(run, config.first.source, "validation")[:PAIRS]
    labels = [str(record.label) for record in records]
    classes = sorted(set(labels))
    if any(record.label is None for record in records) or not 2 <= len(classes) <= MOST:
        return
    known = {record.raw for record in paired_records(run, config.second.source, "train")}
    words = [[w for w in _wordings(label) if w not in known] for label in classes]
    if not all(words):
        return
    count = Counter(labels)
    common = count.most_common(1)[0][0]
    said = {
        "base": _classed(run, base, config, words),
        "random init": _classed(run, base.scratch(0), config, words),
        "commonest class": [classes.index(common)] * len(labels),
    }
    right = {name: [classes[i] for i in each] == np.array(labels) for name, each in said.items()}
    share = np.array([len(labels) / len(classes) / count[label] for label in labels])
    for measure, worth in {
        "zero-shot accuracy": np.ones(len(labels)),
        "zero-shot accuracy, mean per class": share,
    }.items():
        hits = {name: (each * worth)[:, None].tolist() for name, each in right.items()}
        yield from compared(config.first.source, measure, hits)


def _wordings(label: str) -> list[str]:
    """A label in several words: "food-drink" is food and drink."""
    return [wording.format(label.replace("-", " and ").replace("_", " ")) for wording in WORDINGS]


@torch.inference_mode()
def _classed(
    run: Run, base: Base, config: PairsConfig, words: Sequence[Sequence[str]]
) -> list[int]:
    """The number of the class of each held-out picture."""
    first_MK, _ = vectors(run, base, config)
    mean_CK = torch.stack([_text(run, base, config, each).mean(dim=0) for each in words])
    return np.argmax((first_MK @ mean_CK.T).numpy(), axis=1).tolist()  # type: ignore[no-any-return]


def _text(run: Run, base: Base, config: PairsConfig, words: Sequence[str]) -> Tensor:
    """Vectors of wordings in the joint Space, of one length: [W,K]."""
    side = config.second
    space = run.config.data.sources[side.source].modality
    segment = prompts(space, base.codecs[space], words, whole=True)
    read = Read(side.joint, "told", pooled=True)
    told = base.model(View((Stream("main", side.tower, (segment,), reads=(read,)),)))
    return F.normalize(told.predictions["told"][:, 0], dim=-1)


MEASURE = Measure((PairsConfig,), zeroshot)
