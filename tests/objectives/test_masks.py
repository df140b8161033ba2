"""Rules by which tokens are masked: what a rule must define, and what every rule keeps to."""

from __future__ import annotations

import pytest
import torch

from broadbase.core.config import discover
from broadbase.core.keyed_random import KeyedRandom
from broadbase.modalities.bytes import BytesConfig
from broadbase.objectives.masks import MasksConfig, RowMasksConfig
from support.segments import packed

discover(MasksConfig.package)
PLANES = {"blocks", "tubes"}  # they need tokens that fill a plane


def test_a_rule_must_say_how_it_chooses() -> None:
    with pytest.raises(TypeError, match=r"abstract.*\bchoose\b"):
        MasksConfig()  # type: ignore[abstract]
    with pytest.raises(TypeError, match=r"abstract.*\brow\b"):
        RowMasksConfig()  # type: ignore[abstract]


@pytest.mark.parametrize("name", sorted(set(MasksConfig.choices) - PLANES))
def test_a_rule_chooses_different_tokens_that_count(name: str) -> None:
    rows, units = packed([[20, 12], [32], [5]], 32), BytesConfig().corruption().units
    rule = MasksConfig.from_tree({"name": name})
    index_BS, weight_BS = rule.choose(rows, 0.25, KeyedRandom(0, 0), "text", units)
    again, _ = rule.choose(rows, 0.25, KeyedRandom(0, 0), "text", units)
    assert torch.equal(index_BS, again)
    assert index_BS.shape == weight_BS.shape == (3, 8)
    for index_S, weight_S, countable_N in zip(index_BS, weight_BS, rows.target_weight, strict=True):
        chosen = index_S[weight_S > 0]
        assert len(chosen.unique()) == len(chosen)
        assert (countable_N[chosen] > 0).all()
        assert 1 <= len(chosen) <= max(round(0.25 * float(countable_N.sum())), 1)
