"""Log-mel spectra, as Whisper takes them, and sound from them.

Legend: n samples, T frames, F frequencies, M mels.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FLOOR, RANGE = 1e-10, 8.0  # the least power; decades below the loudest that are kept
LINEAR, STEP = 1000.0, np.log(6.4) / 27  # Slaney's scale: linear below, then 27 mels to 6.4 times
BLOCK = 4096  # frames at once


def log_mel(samples: NDArray[np.float32], rate: int, window: int, hop: int, mels: int) -> Floats:
    """Return decimal logarithms of the mel power [T,M], T = n // hop (Radford et al. 2023, 2.2).

    Frames are centred, their ends mirrored, windowed by Hann; nothing is more than 8 decades below
    the loudest. The last frame is dropped, as there.
    """
    frames = _frames(samples, window, hop)[: len(samples) // hop]
    hann, filters = _hann(window), mel_filters(rate, window, mels)
    power = [
        np.abs(np.fft.rfft(frames[i : i + BLOCK] * hann)) ** 2 @ filters
        for i in range(0, len(frames), BLOCK)
    ]
    logs: Floats = np.log10(np.maximum(np.concatenate(power), FLOOR))
    return np.maximum(logs, float(logs.max()) - RANGE)


@cache
def mel_filters(rate: int, window: int, mels: int) -> Floats:
    """Return triangles of equal width in mels and equal area (Slaney 1998), [F,M]."""
    frequencies = np.fft.rfftfreq(window, 1 / rate)
    corners = _hertz(np.linspace(0, _mels(rate / 2), mels + 2))
    width = np.diff(corners)
    rising = (frequencies[:, None] - corners[:-2]) / width[:-1]
    falling = (corners[2:] - frequencies[:, None]) / width[1:]
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (corners[2:] - corners[:-2])


def sound(logs: Floats, rate: int, window: int, hop: int, rounds: int = 32) -> Floats:
    """Return a sound [n] of log-mel near `logs` [T,M]; phases by Griffin & Lim (1984)."""
    filters, hann = mel_filters(rate, window, logs.shape[1]), _hann(window)
    mel, power = 10.0**logs, np.ones((len(logs), len(filters))) * (filters.sum(axis=1) > 0)
    for _ in range(rounds):  # no power below 0 (Lee & Seung 2001, of divergence)
        power *= mel / np.maximum(power @ filters, FLOOR) @ filters.T
        power /= np.maximum(filters.sum(axis=1), FLOOR)
    size = np.sqrt(power)
    spectra = size * np.exp(2j * np.pi * np.random.default_rng(0).random(size.shape))
    samples = _overlapped(spectra, hann, hop)
    for _ in range(rounds):
        phase = np.angle(np.fft.rfft(_frames(samples, window, hop)[: len(size)] * hann))
        samples = _overlapped(size * np.exp(1j * phase), hann, hop)
    return samples


def _hann(window: int) -> Floats:
    """Return the periodic Hann window [window]: one more sample would begin the next period."""
    return np.hanning(window + 1)[:-1]


def _frames(samples: NDArray[np.floating], window: int, hop: int) -> NDArray[np.floating]:
    """Return centred frames [1 + n // hop, window] of samples mirrored at both ends: a view."""
    mirrored = np.pad(samples, window // 2, "reflect")
    return np.lib.stride_tricks.sliding_window_view(mirrored, window)[::hop]


def _overlapped(spectra: NDArray[np.complex128], hann: Floats, hop: int) -> Floats:
    """Return the sound [n], n = T * hop, of spectra [T,F]: overlapped, divided by the weight."""
    frames, window = np.fft.irfft(spectra, len(hann)) * hann, len(hann)
    total, weight = np.zeros((2, len(frames) * hop + window))
    for t, frame in enumerate(frames):
        total[t * hop : t * hop + window] += frame
        weight[t * hop : t * hop + window] += hann**2
    inside = slice(window // 2, window // 2 + len(frames) * hop)
    samples: Floats = total[inside] / np.maximum(weight[inside], 1e-8)
    return samples


def _mels(hertz: float) -> float:
    return hertz * 3 / 200 if hertz < LINEAR else 15 + float(np.log(hertz / LINEAR)) / STEP


def _hertz(mels: Floats) -> Floats:
    return np.where(mels < 15, mels * 200 / 3, LINEAR * np.exp(STEP * (mels - 15)))
