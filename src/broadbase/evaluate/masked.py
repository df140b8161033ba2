"""Accuracy on masked tokens of held-out rows, against the most frequent ids of the training rows.

All tokens that the objective would corrupt are masked. The interval is over rows, each with the
mean of its tokens.

Legend: S masked tokens, N tokens of a row, V ids.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from broadbase.data.batches import collate
from broadbase.evaluate.registry import Measure, without_targets
from broadbase.evidence.comparison import MODEL, Comparison, Metric, compare
from broadbase.inference.base import Base
from broadbase.modalities.noise import Hide
from broadbase.objectives.masked import MaskedConfig
from broadbase.run.run import Run

ROWS = 2000  # the most held-out rows that are evaluated
METRIC = Metric("masked token accuracy", "higher")


@torch.inference_mode()
def masked_accuracy(run: Run, base: Base, config: MaskedConfig) -> Iterator[Comparison]:
    """Compare with the most frequent id, over all positions and at the token's position."""
    objective = config.build()
    frequent: dict[str, tuple[int, torch.Tensor]] = {}
    scores: dict[str, dict[str, list[list[float]]]] = {}
    mask = {name: Hide() for name in run.config.model.modalities}
    for batch in run.held_out(ROWS):
        for view in objective.views(batch, mask):
            (score,) = view.scored
            if score.term not in frequent:
                frequent[score.term] = _most_frequent(run, _targets_of(config, score.term))
            overall, by_position_N = frequent[score.term]
            predictions = {
                MODEL: base.model(without_targets(view)).predictions["p"].argmax(dim=-1),
                "unigram": torch.full_like(score.target, overall),
                "unigram by position": by_position_N[score.tokens],
            }
            for name, ids_BS in predictions.items():
                rows = scores.setdefault(score.term, {}).setdefault(name, [])
                correct_BS = (ids_BS == score.target).float()
                rows += [
                    r[w > 0].tolist() for r, w in zip(correct_BS, score.loss_weight, strict=True)
                ]
    for source, by_baseline in scores.items():
        yield from compare(source, METRIC, by_baseline)


def predicts_ids(run: Run, config: MaskedConfig) -> bool:
    """Return whether the targets of every source are ids; vectors are right or wrong by no id."""
    sources = run.config.data.sources
    names = sources.keys() - set(config.targets_from.values())
    targets = [_targets_of(config, name) for name in names]
    return all(run.codecs[sources[name].modality].start.ndim == 0 for name in targets)


def _targets_of(config: MaskedConfig, source: str) -> str:
    """Return the source whose values are the targets of a source."""
    return config.targets_from.get(source, source)


def _most_frequent(run: Run, source: str) -> tuple[int, torch.Tensor]:
    """Return the most frequent id of the rows that the run saw, overall and by position [N]."""
    rows = run.rows("train")[source]
    segment = collate(run.seen(source), run.config.data.sources[source].modality, rows.plain)
    ids, counts = segment.values.numpy(), segment.target_weight.numpy() > 0
    table_NV = np.zeros((ids.shape[1], int(ids.max()) + 1), dtype=np.int64)
    for n in range(ids.shape[1]):
        table_NV[n] = np.bincount(ids[counts[:, n], n], minlength=table_NV.shape[1])
    return int(table_NV.sum(axis=0).argmax()), torch.from_numpy(table_NV.argmax(axis=1))


MEASURE = Measure((MaskedConfig,), masked_accuracy, applies=predicts_ids)
