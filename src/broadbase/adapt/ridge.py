"""Ridge regression that is not fitted to some of its rows, without another fit.

Legend: M rows, F features, K columns of outputs, S rows that are left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, solve

from broadbase.adapt.splits import Indices

Rows = NDArray[np.float64]
TINY = 1e-12  # of the largest eigenvalue; smaller ones count as 0


class LeftOut:
    """What ridge regression of `wanted` [M,K] on `rows` [M,F] predicts of rows that it lacks.

    Exact, with one decomposition for all penalties and all parts of the rows: with the hat matrix H
    of all rows, the residuals of the rows S when they are left out are (1 - H_SS)^-1 (Y - HY)_S
    (Cook & Weisberg 1982, 2.2.1, for one row). The intercept is not penalised, and a row counts by
    its weight [M].
    """

    def __init__(self, rows: Rows, wanted: Rows, weights: NDArray[np.float64]) -> None:
        """Decompose the rows."""
        self.root = np.sqrt(weights)[:, None]  # rows and residuals are scaled by it
        self.share = self.root / np.sqrt(weights.sum())
        centred = self.root * (rows - np.average(rows, axis=0, weights=weights))
        wide = centred.shape[0] <= centred.shape[1]
        squares, vectors = eigh(centred @ centred.T if wide else centred.T @ centred)
        kept = squares > TINY * max(squares[-1], TINY)
        self.squares = squares[kept]  # [E], of the singular values
        self.basis: Rows = vectors[:, kept]  # [M,E]
        if not wide:
            self.basis = centred @ self.basis / np.sqrt(self.squares)
        self.wanted = wanted
        self.projected: Rows = self.basis.T @ (self.root * wanted)  # [E,K]
        self.mean: Rows = self.share.T @ (self.root * wanted)  # [1,K]

    def outputs(self, penalty: float, part: Indices) -> Rows:
        """Return what is predicted of the rows `part`, numbered from 0, without them, [S,K]."""
        shrunk = self.basis[part] * (self.squares / (self.squares + penalty))
        share, root = self.share[part], self.root[part]
        hat = shrunk @ self.basis[part].T + share @ share.T
        residuals = root * self.wanted[part] - shrunk @ self.projected - share @ self.mean
        without = solve(np.eye(len(part)) - hat, residuals, assume_a="sym")
        outputs: Rows = self.wanted[part] - without / root
        return outputs
