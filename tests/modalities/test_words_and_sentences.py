"""Words stay whole and sentences change places: what a modality knows and an objective uses."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.contracts import Batch, ModalityConfig, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Segment, View
from broadbase.modalities.text import TextConfig
from broadbase.modalities.units import units
from broadbase.objectives.denoising import permute_sentences
from support.segments import packed

TEXT = (
    "The quick brown foxes jumped over lazier dogs. Was it 1961? Yes! Jumping, foxes (lazy ones)."
)
WORD = re.compile(r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s")


def cut(text: str, name: str) -> list[str]:
    """The text of each unit, by the ids of a tokenizer with merges."""
    config = TextConfig(vocab_size=300)
    codec = config.fit([TEXT] * 4)
    values = codec.encode(text).values
    begins = config.corruption_of(codec).units[name](torch.from_numpy(values)).numpy()
    positions = [*np.flatnonzero(begins), len(values)]
    return [codec.decode(values[a:b], (b - a,)) for a, b in pairwise(positions)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(TEXT.split()), min_size=1, max_size=12))
def test_words_are_those_of_the_text(words: list[str]) -> None:
    """However the tokenizer cuts them: a run of letters, of digits or of signs is one."""
    text = " ".join(words)
    assert cut(text, "word") == WORD.findall(text)


def test_sentences_end_with_a_stop_and_begin_with_a_blank() -> None:
    assert cut('One 3.14 two. "Three!" Four? five', "sentence") == [
        "One 3.14 two.",
        ' "Three!"',
        " Four?",
        " five",
    ]


def test_letters_of_several_bytes_are_letters() -> None:
    begins = units([bytes([i]) for i in range(256)])["word"]
    values = torch.tensor([256, *"Ångström b".encode()])
    assert [*begins(values).nonzero().flatten()] == [0, 1, 11]


def masked(segment: Segment, share: float, seed: int) -> tuple[View, torch.Tensor]:
    corrupt = ModalityConfig.named("bytes")().corruption()
    fields = {"name": "masked", "mask_ratio": share, "masks": {"name": "words"}}
    objective = ObjectiveConfig.from_tree(fields).build()
    (view,) = objective.views(Batch(0, {"s": segment}, KeyedRandom(seed, 0)), {"bytes": corrupt})
    (read,) = view.readouts
    assert read.index is not None
    chosen = torch.zeros(segment.position.shape[:2]).scatter_add(1, read.index, read.loss_weight)
    return view, chosen


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text("ab ", min_size=2, max_size=12), min_size=1, max_size=3),
    st.floats(0.05, 0.6),
    st.integers(0, 99),
)
def test_a_word_is_hidden_complete_or_not_at_all(texts: list[str], share: float, seed: int) -> None:
    lengths = [len(text) + 1 for text in texts]
    segment = packed([lengths], sum(lengths) + 2)
    at, words = 0, list[range]()
    for text in texts:
        segment.values[0, at + 1 : at + 1 + len(text)] = torch.tensor([*text.encode()])
        result = re.finditer(r" ?[ab]+| ", text)
        words += [range(at + 1 + m.start(), at + 1 + m.end()) for m in result]
        at += 1 + len(text)
    _, chosen = masked(segment, share, seed)
    total = sum(len(word) for word in words)
    wanted = max(1, round(share * total))
    assert set(chosen.unique().tolist()) <= {0.0, 1.0}
    assert 0 < chosen.sum() <= wanted
    if min(map(len, words)) <= wanted:
        assert all(chosen[0, w.start : w.stop].unique().numel() == 1 for w in words)
        left = [len(w) for w in words if not chosen[0, w.start]]
        assert not left or chosen.sum() + min(left) > wanted
    assert chosen.sum() == sum(chosen[0, w.start : w.stop].sum() for w in words)


def test_residues_have_no_words() -> None:
    config = ModalityConfig.named("protein")()
    segment = Segment(**{**packed([[9]], 9).__dict__, "space": "protein"})
    objective = ObjectiveConfig.from_tree({"name": "masked", "masks": {"name": "words"}}).build()
    with pytest.raises(ConfigError, match="'protein' has no words"):
        objective.views(
            Batch(0, {"s": segment}, KeyedRandom(0, 0)), {"protein": config.corruption()}
        )


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.floats(0, 1), st.integers(0, 99))
def test_sentences_change_positions_and_nothing_is_lost(
    begins: list[bool], share: float, seed: int
) -> None:
    positions = permute_sentences(np.array(begins), share, np.random.default_rng(seed))
    n = len(begins)
    assert sorted(positions) == [*range(n)]
    assert positions[0] == 0
    assert positions[-1] == n - 1
    for a, b in pairwise(positions[:-1]):  # apart only where a sentence begins
        assert b == a + 1 or b == 1 or begins[b]


def test_bart_reads_its_sentences_in_another_order_and_tells_them_in_reference() -> None:
    text = b"First one. Second one is longer. And a third."
    values = torch.tensor([[256, *text, 257]])
    row = packed([[len(text) + 2]], len(text) + 2)
    segment = Segment(**{**row.__dict__, "values": values})
    corrupt = ModalityConfig.named("bytes")().corruption()
    fields = {"name": "infilling", "permute_ratio": 1.0, "mask_ratio": 0.01}
    objective = ObjectiveConfig.from_tree(fields).build()
    orders = set()
    for seed in range(20):
        (view,) = objective.views(
            Batch(0, {"s": segment}, KeyedRandom(seed, 0)), {"bytes": corrupt}
        )
        given_ = view.streams[0].segments[0].values
        (read,) = view.readouts
        assert given_ is not None
        assert read.target[0, : len(text) + 1].tolist() == [*text, 257]
        output = bytes(v for v in given_[0].tolist() if 0 < v < 256)
        assert sorted(re.findall(rb" ?[^.]+\.", output)) == sorted(re.findall(rb" ?[^.]+\.", text))
        orders.add(output)
    assert len(orders) == 6
