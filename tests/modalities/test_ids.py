"""Modalities of ids: what a subclass must define, and whose codec a published vocabulary uses."""

from __future__ import annotations

from typing import Any

import pytest

from broadbase.core.codec import Codec
from broadbase.modalities.audio import AudioConfig
from broadbase.modalities.bytes import BytesConfig
from broadbase.modalities.codes import CodesConfig
from broadbase.modalities.ids import IdsConfig
from broadbase.modalities.tokens import TokensConfig
from broadbase.nn.spaces.discrete import DiscreteConfig


class Uncounted(IdsConfig):
    """A modality that does not say how many ids it has."""

    def load(self, folder: Any) -> Codec:
        raise AssertionError("not reached")


def test_a_modality_of_ids_must_say_how_many_it_has() -> None:
    with pytest.raises(TypeError, match=r"abstract.*\bids\b"):
        Uncounted()  # type: ignore[abstract]


def test_only_modalities_of_ids_have_settings_of_ids() -> None:
    assert AudioConfig().id_settings is None
    assert CodesConfig(codebooks=2).id_settings is None
    assert CodesConfig(codes=8).id_settings == DiscreteConfig(vocab_size=10)
    assert BytesConfig(extra_ids=3).id_settings == DiscreteConfig(vocab_size=258, extra_ids=3)


def test_a_published_vocabulary_may_use_the_codec_of_another_modality() -> None:
    discrete, ours = DiscreteConfig(vocab_size=300), BytesConfig()
    alone, joined = TokensConfig(discrete=discrete), TokensConfig(discrete=discrete, by=ours)
    assert ours.codec_modality is ours
    assert alone.codec_modality is alone
    assert joined.codec_modality is ours
    assert joined.id_settings == discrete
