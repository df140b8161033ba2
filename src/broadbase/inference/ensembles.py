"""Prompt ensembles: several texts of a class as one vector (Radford et al. 2021, 3.1.4).

Legend: W texts, F features, K dimensions of a joint space.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from broadbase.inference.embedding import Embedding


def ensemble(vectors_WF: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean [F] of vectors of length 1, brought to length 1 again."""
    return _unit(_unit(vectors_WF).mean(axis=0))


def joint_ensemble(base: Embedding, texts: Sequence[str], head: str, modality: str) -> Tensor:
    """Return the vector [K+1] of several texts together, by a joint head.

    Its dot product with a vector of the other side is the logit of their being a pair, by the scale
    and the bias of the base.
    """
    vectors_WK = base.embed_joint(texts, head, modality=modality)
    directed_WK, constant_W1 = vectors_WK[:, :-1], vectors_WK[:, -1:]
    scale = directed_WK.norm(dim=-1).mean()
    mean_K = F.normalize(F.normalize(directed_WK, dim=-1).mean(dim=0), dim=0)
    return torch.cat([scale * mean_K, constant_W1.mean(dim=0)])


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    return result
