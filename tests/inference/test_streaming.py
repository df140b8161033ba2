"""Tokens as they are generated, gaps filled, and vectors of a joint space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.view import Predict
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.request import Prompt
from support.bases import base_of, protein_base, text_base

TEXTS = ["the cat sat on the mat", "a cat and a mat and a hat", "the hat of the cat"]
HOT = SamplingConfig(temperature=1.0, seed=3)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_streamed_tokens_are_what_is_generated(temperature: float) -> None:
    base, sampling = text_base(), SamplingConfig(temperature=temperature, seed=3)
    tokens = list(base.stream(Prompt(value="the cat"), max_new_tokens=40, sampling=sampling))
    assert "".join(token.text for token in tokens) == base.generate(
        "the cat", max_new_tokens=40, sampling=sampling
    ).rstrip("\ufffd")


def test_parts_of_a_character_wait_until_it_is_complete() -> None:
    base = base_of("bytes", [])
    tokens = list(base.stream(Prompt(value="é"), max_new_tokens=60, sampling=HOT))
    text = base.generate("é", max_new_tokens=60, sampling=HOT)
    streamed = "".join(token.text for token in tokens)
    assert text.startswith(streamed.rstrip("\ufffd"))
    assert "\ufffd" not in tokens[0].text


def test_probabilities_are_those_of_the_model() -> None:
    base = text_base()
    first = next(base.stream(Prompt(value="the cat"), sampling=HOT, alternatives=300))
    expected = base.logits("the cat")[-1].softmax(dim=-1)
    listed = np.sort([guess.probability for guess in first.alternatives])
    np.testing.assert_allclose(listed, np.sort(expected.numpy()), atol=1e-6)
    assert first.guess.probability in {guess.probability for guess in first.alternatives}


def test_what_cannot_be_streamed_is_refused_before_the_first_token() -> None:
    with pytest.raises(ConfigError, match="cannot generate"):
        protein_base().stream(Prompt(value="MK"))
    with pytest.raises(DataError, match="no residue"):
        protein_base("causal").stream(Prompt(value="M1"))


def test_a_gap_gets_the_prediction_at_its_place() -> None:
    base = protein_base()
    (guesses,) = base.fill("MK[MASK]A", most=40)
    segment = base.read(["MKTA"], closed=True)
    masked = torch.zeros_like(segment.values, dtype=torch.bool)
    masked[0, 3] = True
    from_view = base.model(
        base._view("protein", replace(segment, masked=masked), (Predict("protein", "all"),))
    ).predictions["all"][0, 3]
    order = from_view.softmax(dim=-1).sort(descending=True)
    np.testing.assert_allclose(
        [guess.probability for guess in guesses], order.values[: len(guesses)].detach(), atol=1e-6
    )
    assert sum(guess.probability for guess in guesses) == pytest.approx(1, abs=1e-5)


def test_several_gaps_are_filled_and_a_text_without_one_is_refused() -> None:
    base = protein_base()
    assert len(base.fill("[MASK]MK[MASK][MASK]")) == 3
    with pytest.raises(ConfigError, match=r"write \[MASK\]"):
        base.fill("MK")
    with pytest.raises(ConfigError, match="reads from the left"):
        protein_base("causal").fill("M[MASK]")


def test_the_blank_before_a_gap_belongs_to_the_missing_word() -> None:
    base = base_of("text", TEXTS, "full")
    segment, gaps = base._with_gaps("text", "the [MASK] sat")
    codec = base.codecs["text"]
    before = codec.encode("the").values
    assert gaps.tolist() == [[1 + len(before)]]
    after = codec.encode(" sat").values
    ids = segment.values[0].tolist()
    assert ids[1 : 1 + len(before)] == before.tolist()
    assert ids[2 + len(before) : -1] == after.tolist()
