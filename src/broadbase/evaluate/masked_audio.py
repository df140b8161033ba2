"""Masked frames of held-out sounds: squared error against interpolation in time, in dB²."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from broadbase.evaluate.masked_errors import Filler, MaskedErrors, MaskedRecord, Values
from broadbase.evaluate.registry import Measure
from broadbase.evidence.comparison import Metric
from broadbase.modalities.audio import LOUDEST, SILENCE, AudioConfig
from broadbase.objectives.mae import MaskedAutoencoderConfig

SQUARED_DECIBELS = (10 * (LOUDEST - SILENCE)) ** 2  # of a squared value in [0, 1]


@dataclass(frozen=True)
class AudioFiller(Filler):
    """Interpolation in time and the mean of the visible frames, each mel band by itself."""

    audio: AudioConfig

    def fill(self, record: MaskedRecord) -> Mapping[str, Values]:
        """Return the masked tokens [S,K] by baseline."""
        times, masked = record.visible_at[:, 0], record.masked_at[:, 0]
        mean = np.tile(record.visible.reshape(-1, self.audio.mels).mean(axis=0), self.audio.patch)
        return {
            "linear interpolation": interpolate(record.visible, times, masked, self.audio.patch),
            "mean of visible frames": np.broadcast_to(mean, (len(masked), len(mean))),
        }


def interpolate(visible: Values, times: Values, masked: Values, patch: int) -> Values:
    """Fill masked tokens [S,K] of `patch` frames each, linearly in time, channel by channel.

    `visible` [V,K] are the tokens at `times` [V], `masked` [S] the times to fill. Before the first
    and after the last visible frame, that frame is repeated.
    """
    order, frame = np.argsort(times), np.arange(patch)
    visible_times = (times[order, None] * patch + frame).ravel()
    masked_times = (masked[:, None] * patch + frame).ravel()
    channels = visible[order].reshape(len(visible_times), -1).T
    filled = np.stack([np.interp(masked_times, visible_times, c) for c in channels], axis=1)
    return filled.reshape(len(masked), -1)


MEASURE = Measure(
    (MaskedAutoencoderConfig,),
    MaskedErrors(AudioFiller, Metric("mean squared error, dB²", "lower"), scale=SQUARED_DECIBELS),
    modalities=(AudioConfig,),
)
