"""The error of a masked autoencoder on held-out records, against filling in from what is visible.

One loop for every modality. A `Filler` says what is specific to one: how masked tokens are filled
in without a model, and which records depend on each other.

Legend: V visible tokens, S masked tokens, K channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.contracts import Batch
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import View
from broadbase.data.batches import held_out
from broadbase.evaluate.registry import without_targets
from broadbase.evidence.comparison import MODEL, MSE, Comparison, Metric, compare
from broadbase.inference.base import Base
from broadbase.model.model import ModelConfig
from broadbase.nn.spaces.regression import Regression, RegressionConfig
from broadbase.objectives.mae import MaskedAutoencoderConfig
from broadbase.run.run import Run

Values = NDArray[Any]


@dataclass(frozen=True)
class MaskedRecord:
    """The tokens of one record that the encoder saw, and where those are that it did not."""

    visible: Values  # [V,K]
    visible_at: NDArray[np.int64]  # [V,3] their coordinates (time, row, column)
    masked_at: NDArray[np.int64]  # [S,3]


class Filler(ABC):
    """Ways to fill masked tokens of a modality from the visible ones, without a model."""

    @abstractmethod
    def fill(self, record: MaskedRecord) -> Mapping[str, Values]:
        """Return the masked tokens [S,K] as each baseline fills them, by its name."""

    def item(self, record_id: str) -> str:
        """Return which independent item a record belongs to; by default it is one by itself."""
        return record_id


@dataclass(frozen=True)
class MaskedErrors:
    """The mean squared error of masked tokens, for every source; the interval is over items."""

    filler: Callable[[Any], Filler]  # of a modality's settings
    metric: Metric = MSE
    scale: float = 1.0  # of a squared error, in the units of the metric
    batch_size: int = 64
    records: int | None = None  # the most held-out records that are evaluated; None: all
    key_stride: int = 1  # from batch to batch, in the step that keys the masks

    def __call__(
        self, run: Run, base: Base, config: MaskedAutoencoderConfig
    ) -> Iterator[Comparison]:
        """Yield the comparisons of every source.

        Where the model predicts per-patch normalised values, all errors are of normalised values.
        """
        normalised = predicts_normalised(run.config.model, config.target)
        name = "mean squared error of normalised patches"
        metric = Metric(name, "lower") if normalised else self.metric
        for source in run.config.data.sources:
            items = self._errors(run, base, config, source, normalised)
            scores = {baseline: list(errors.values()) for baseline, errors in items.items()}
            yield from compare(source, metric, scores)

    @torch.inference_mode()
    def _errors(
        self, run: Run, base: Base, config: MaskedAutoencoderConfig, source: str, normalised: bool
    ) -> dict[str, dict[str, list[float]]]:
        """Return the error of every masked token by baseline and item."""
        modality = run.config.data.sources[source].modality
        rows, ids = run.rows("validation")[source], run.stores[source].ids("validation")
        filler, objective = self.filler(run.config.model.modalities[modality]), config.build()
        scaled: Callable[[Values], Values] = normalise if normalised else np.asarray
        scale = 1.0 if normalised else self.scale
        items: dict[str, dict[str, list[float]]] = {}
        for i, segment in enumerate(held_out(rows, modality, self.batch_size, self.records)):
            draws = KeyedRandom(0, i * self.key_stride)
            (view,) = objective.views(Batch(i, {source: segment}, draws), {})
            (score,) = view.scored
            targets = score.target.numpy()
            predictions = base.model(without_targets(view)).predictions["p"].numpy()
            for b, number, scored, record in masked_records(view, run.codecs[modality].start):
                first = rows.starts[i * self.batch_size + b]
                document = int(rows.chunks[rows.packed[first + number], 0])
                target = scaled(targets[b][scored])
                guesses = {MODEL: predictions[b][scored]}
                guesses |= {name: scaled(guess) for name, guess in filler.fill(record).items()}
                for name, guess in guesses.items():
                    errors = scale * ((guess - target) ** 2).mean(axis=1)
                    item = items.setdefault(name, {}).setdefault(filler.item(ids[document]), [])
                    item.extend(errors.tolist())
        return items


def masked_records(
    view: View, start: Values
) -> Iterator[tuple[int, int, NDArray[np.bool_], MaskedRecord]]:
    """Yield every record of a masked autoencoder's view that has visible and masked tokens.

    Gives its row, its number in the row, which targets of the row it has, and the record.
    """
    (score,) = view.scored
    (visible,), (_, masked) = view.streams[0].value_segments, view.streams[1].segments
    for b in range(view.size):
        scored = score.loss_weight[b].numpy() > 0
        masked_in, visible_in = _documents(masked, b), _documents(visible, b)
        values = visible.values[b].numpy()
        for number in np.unique(masked_in[scored]):
            targets = scored & (masked_in == number)
            shown = (visible_in == number) & ~(values == start).all(axis=1)
            if shown.any():
                visible_at = visible.position[b].numpy()[shown] - 1
                masked_at = masked.position[b].numpy()[targets] - 1
                yield b, int(number), targets, MaskedRecord(values[shown], visible_at, masked_at)


def normalise(patches: Values) -> Values:
    """Scale each patch of [S,K] to mean 0 and variance 1, as the model's targets are."""
    mean = patches.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(patches.var(axis=-1, keepdims=True, ddof=1) + Regression.EPSILON)
    scaled: Values = (patches - mean) / deviation
    return scaled


def predicts_normalised(config: ModelConfig, target: str) -> bool:
    """Return whether a model predicts values of `target` that are normalised patch by patch."""
    head = config.heads.get(target)
    return isinstance(head, RegressionConfig) and head.normalise


def require_raw_values(config: ModelConfig, target: str) -> None:
    """Raise ConfigError where a model predicts per-patch normalised values."""
    if predicts_normalised(config, target):
        raise ConfigError(
            f"this model predicts per-patch normalised values of {target!r}, from which no record"
            f" can be restored; train it with --set model.heads.{target}.normalise=false"
        )


def _documents(segment: Any, b: int) -> NDArray[np.int64]:
    """Return which document of a row each token is of."""
    length = segment.position.shape[1]
    return np.zeros(length, np.int64) if segment.document is None else segment.document[b].numpy()
