"""Calibration of answers: what is added to their log-probabilities, against a bias of the base.

Legend: M records, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

from broadbase.adapt.target import Labels

Calibrated = Literal["none", "contextual", "batch", "labels"]
CONTENT_FREE = ("N/A", "", "[MASK]")  # inputs of Zhao et al. 2021, 4
PENALTY = 1.0  # of the square of each number that labels fit


class Affine(NamedTuple):
    """What calibrated log-probabilities are: scale * log p + bias."""

    scale: float
    bias: NDArray[np.float64]  # [K]

    def apply(self, logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated log-probabilities [M,K]."""
        result: NDArray[np.float64] = self.scale * logprobs + self.bias
        return result


def unchanged(classes: int) -> Affine:
    """Return what changes nothing."""
    return Affine(1.0, np.zeros(classes))


def evened(logprobs: NDArray[np.float64]) -> Affine:
    """Return the bias after which classes are equally likely on average over records [M,K].

    Of inputs without content it is contextual calibration (Zhao et al. 2021, 4: W = diag(p)^-1), of
    records batch calibration (Zhou et al. 2024, 3).
    """
    mean = logsumexp(logprobs, axis=0) - np.log(len(logprobs))
    return Affine(1.0, -mean)


def fitted_to(logprobs: NDArray[np.float64], labels: Labels) -> Affine:
    """Return the scale and bias of the least log loss of labels (Platt 1999).

    They are kept near 1 and near the bias that evens the classes.
    """
    K = logprobs.shape[1]
    right, even = np.eye(K)[labels], evened(logprobs).bias
    evenly = logprobs + even

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale, bias = np.exp(x[0]), x[1:]
        logits = scale * evenly + bias
        error = softmax(logits, axis=1) - right
        value = -(log_softmax(logits, axis=1) * right).sum() + PENALTY * (x**2).sum() / 2
        slope = np.concatenate([[(error * evenly).sum() * scale], error.sum(axis=0)])
        return float(value), slope + PENALTY * x

    x = minimize(loss, np.zeros(K + 1), jac=True, method="L-BFGS-B").x
    scale = float(np.exp(x[0]))
    return Affine(scale, scale * even + x[1:])


FITS: Mapping[Calibrated, Callable[[NDArray[np.float64], Labels], Affine]] = {
    "batch": lambda logprobs, _: evened(logprobs),
    "labels": fitted_to,
}
