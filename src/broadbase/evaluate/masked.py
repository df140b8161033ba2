"""Hidden places of held-out rows, told by the likeliest id, beside the ids most frequent as seen.

All places that the objective would corrupt are hidden. The interval is over rows (pictures), each
with the mean of its places.

Legend: S hidden places, N places of a row, V ids.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from broadbase.core.errors import ConfigError
from broadbase.data.batches import collate
from broadbase.evaluate.registry import Measure, Measured, asked, compared
from broadbase.inference.base import Base
from broadbase.modalities.noise import Hide
from broadbase.objectives.masked import MaskedConfig
from broadbase.run.run import Run

ROWS = 2000  # held-out ones that are looked at, the first


@torch.inference_mode()
def hidden(run: Run, base: Base) -> Iterator[Measured]:
    """Every source beside the most frequent id of all places, and the most frequent of its place.

    ConfigError where places are told in vectors.
    """
    config, objective = run.config.objective, run.config.objective.build()
    assert isinstance(config, MaskedConfig)
    frequent: dict[str, tuple[int, torch.Tensor]] = {}
    found: dict[str, dict[str, list[list[float]]]] = {}
    hide = {name: Hide() for name in run.config.model.modalities}
    for batch in run.held_out(ROWS):
        for view in objective.views(batch, hide):
            (read,) = view.reads
            if read.values is None or read.values.ndim != 2:
                raise ConfigError(
                    f"{read.term!r} is told in vectors, which are right or wrong by no id"
                )
            assert read.index is not None
            assert read.weight is not None
            if read.term not in frequent:
                frequent[read.term] = _frequent(run, config.told.get(read.term, read.term))
            overall, of_place_N = frequent[read.term]
            told = {
                "base": base.model(asked(view)).predictions["p"].argmax(dim=-1),
                "unigram": torch.full_like(read.values, overall),
                "unigram of the place": of_place_N[read.index],
            }
            for name, ids_BS in told.items():
                rows = found.setdefault(read.term, {}).setdefault(name, [])
                right_BS = (ids_BS == read.values).float()
                rows += [r[w > 0].tolist() for r, w in zip(right_BS, read.weight, strict=True)]
    for source, each in found.items():
        yield from compared(source, "hidden places told right", each)


def _frequent(run: Run, source: str) -> tuple[int, torch.Tensor]:
    """The most frequent id of the rows that the run saw, overall and at each place [N]."""
    rows = run.rows("train")[source]
    segment = collate(run.seen(source), run.config.data.sources[source].modality, rows.plain)
    assert segment.values is not None
    assert segment.weight is not None
    ids, counts = segment.values.numpy(), segment.weight.numpy() > 0
    table_NV = np.zeros((ids.shape[1], int(ids.max()) + 1), dtype=np.int64)
    for place in range(ids.shape[1]):
        table_NV[place] = np.bincount(ids[counts[:, place], place], minlength=table_NV.shape[1])
    return int(table_NV.sum(axis=0).argmax()), torch.from_numpy(table_NV.argmax(axis=1))


MEASURE = Measure((MaskedConfig,), hidden)
