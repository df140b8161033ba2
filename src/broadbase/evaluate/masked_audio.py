"""Hidden frames of held-out sounds: their squared error beside filling in what is around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.contracts import Batch
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import Draws
from broadbase.core.view import View
from broadbase.data.batches import held_out
from broadbase.evaluate.registry import Measure, Measured, asked, compared
from broadbase.inference.base import Base
from broadbase.modalities.audio import LOUDEST, SILENCE, AudioConfig
from broadbase.objectives.mae import MaskedAutoencoderConfig
from broadbase.run.run import Run

SCALE = (10 * (LOUDEST - SILENCE)) ** 2  # of a squared share, in squared decibels
ROWS = 64  # at once


@torch.inference_mode()
def frames(run: Run, base: Base) -> Iterator[Measured]:
    """Every source beside neighbours in time, joined by lines, and the mean of the seen frames.

    Both fill each mel by itself. Items are hidden places, documents whole sounds, in dB^2.
    """
    target: Any = run.config.model.modalities[run.config.objective.target]  # type: ignore[attr-defined]
    if target.normalise:
        raise ConfigError(
            "this base tells places brought to mean 0 and variance 1, which no sound can be filled"
            " with; train with `normalise: false` in the modality that it tells"
        )
    objective = run.config.objective.build()
    for source, mixed in run.config.data.sources.items():
        audio, rows = run.config.model.modalities[mixed.modality], run.rows("validation")[source]
        assert isinstance(audio, AudioConfig)
        names = ("base", "neighbours", "mean of the seen")
        found: dict[str, dict[int, list[float]]] = {name: {} for name in names}
        for i, segment in enumerate(held_out(rows, mixed.modality, ROWS)):
            (view,) = objective.views(Batch(i, {source: segment}, Draws(0, i)), {})
            told = base.model(asked(view)).predictions["p"].numpy()
            for b, number, errors in _errors(view, told, audio):
                document = int(rows.chunks[rows.packed[rows.starts[i * ROWS + b] + number], 0])
                for name, each in zip(names, errors, strict=True):
                    found[name].setdefault(document, []).extend((SCALE * each).tolist())
        lists = {name: list(errors.values()) for name, errors in found.items()}
        yield from compared(source, "squared error, dB^2", lists)


def _errors(
    view: View, told: NDArray[Any], audio: AudioConfig
) -> Iterator[tuple[int, int, tuple[NDArray[Any], ...]]]:
    """Row and number of every sound, with the mean squared error of each of its hidden places."""
    (read,) = view.reads
    seen, hidden = view.streams[0].segments[0], view.streams[1].segments[1]
    assert read.values is not None
    assert read.weight is not None
    assert seen.values is not None
    for b in range(view.size):
        scored = read.weight[b].numpy() > 0
        at, place = _documents(hidden, b), hidden.position[b, :, 0].numpy()
        there, known = _documents(seen, b), seen.position[b, :, 0].numpy()
        for number in np.unique(at[scored]):
            here = scored & (at == number)
            inside = (there == number) & (seen.values[b, :, 0].numpy() >= 0)  # not the start
            if not inside.any():
                continue
            values, truth = seen.values[b].numpy()[inside], read.values[b].numpy()[here]
            lines = neighbours(values, known[inside], place[here], audio.patch)
            mean = np.tile(values.reshape(-1, audio.mels).mean(axis=0), audio.patch)
            filled = (told[b][here], lines, np.broadcast_to(mean, truth.shape))
            yield b, int(number), tuple(((each - truth) ** 2).mean(axis=1) for each in filled)


def _documents(segment: Any, b: int) -> NDArray[np.int64]:
    """The document of each place of a row."""
    places = segment.position.shape[1]
    return np.zeros(places, np.int64) if segment.document is None else segment.document[b].numpy()


def neighbours(
    values: NDArray[Any], places: NDArray[Any], wanted: NDArray[Any], patch: int
) -> NDArray[Any]:
    """Hidden places [S,K] from the frames of the seen ones [V,K]: lines in time, mel by mel.

    Before the first and after the last seen frame, that frame.
    """
    order, frame = np.argsort(places), np.arange(patch)
    known = (places[order, None] * patch + frame).ravel()
    asked_for = (wanted[:, None] * patch + frame).ravel()
    mels = values[order].reshape(len(known), -1).T
    filled = np.stack([np.interp(asked_for, known, mel) for mel in mels], axis=1)
    return filled.reshape(len(wanted), -1)


MEASURE = Measure((MaskedAutoencoderConfig,), frames, modalities=(AudioConfig,))
