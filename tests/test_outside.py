"""Every modality under every objective, those of another package too: no leak, and it learns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from broadbase.core.contracts import ModalityConfig, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.testing import check_pairing
from support.outside import MODALITIES, SINGLE, raws, settings

MOVES_IDS = {"fim", "span_corruption", "infilling"}  # they take documents apart
TELLS_VECTORS = {"mae", "autoencoder"}
MARKS = {"fim", "span_corruption"}
SEES = {"toy-copy", "autoencoder"}  # they predict what they read


def pairings() -> Iterator[Any]:
    """Every modality with every objective: a third of each in the suite, the others are slow."""
    for i, modality in enumerate(sorted(MODALITIES)):
        for j, objective in enumerate(sorted(SINGLE)):
            marks = pytest.mark.slow if (i + j) % 3 else ()
            yield pytest.param(modality, objective, marks=marks)


@pytest.mark.parametrize(("modality", "objective"), [*pairings()])
def test_every_pairing_learns(modality: str, objective: str) -> None:
    """Views and losses keep their promises, and 30 steps lower the loss on the rows it saw."""
    config = ModalityConfig.from_tree(settings(modality))
    vectors = config.fit(raws(modality)).encode(raws(modality)[0]).values.ndim == 2
    refused = (
        (objective in MARKS and not config.corruption().sentinels)
        or (objective in MOVES_IDS and vectors)
        or (objective in TELLS_VECTORS and not vectors)
    )
    sources = {"s": (config, raws(modality))}
    chosen = ObjectiveConfig.named(objective)()
    sees = objective in SEES
    if refused:
        with pytest.raises(ConfigError, match=r"holds (ids|vectors); use|needs \d+ extra ids"):
            check_pairing(sources, chosen, sees_targets=sees)
    elif modality == "toy-counts" and objective.startswith("distil"):
        with pytest.raises(ConfigError, match="predicts no logits of categories"):
            check_pairing(sources, chosen, sees_targets=sees)
    else:
        before, after = check_pairing(sources, chosen, sees_targets=sees)
        assert after < before - 0.05
