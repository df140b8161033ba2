"""Log-probabilities of answers: those of the base's logits, however rows share what is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.view import Predict, Segment
from broadbase.inference.base import Base
from broadbase.inference.conditioning import EncoderConditioningConfig
from broadbase.inference.documents import document
from broadbase.inference.usages import plain_usage
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from support.bases import protein_base, text_base
from support.models import HEADS, TOWER

BASE = text_base()
WORDS = ["the cat", "a hat", "mat\n", "of", "sat on", ""]


def expected(base: Base, prompt: str, answer: str) -> tuple[float, int]:
    """The log-probability of what an answer adds, by the logits of prompt and answer."""
    space, codec = base.codec()
    kind = base.config.modalities[space]
    before, full = (
        document(codec, kind.clean_prefix(text), False)[0].tolist()
        for text in (prompt, prompt + answer)
    )
    same = next(
        (i for i, pair in enumerate(zip(before, full, strict=False)) if pair[0] != pair[1]),
        len(before),
    )
    logprob = base.logits(prompt + answer).log_softmax(dim=-1)
    return sum(float(logprob[i - 1, full[i]]) for i in range(same, len(full))), len(full) - same


@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=5), min_size=1, max_size=4),
    st.lists(st.sampled_from([" cat", " a hat of", " mat mat", "t", " \n."]), min_size=1,
             max_size=3, unique=True),
)  # fmt: skip
def test_answers_are_as_likely_as_logits_say(words: list[list[str]], answers: list[str]) -> None:
    prompts = [" ".join(each) for each in words]
    result = BASE.score_answers(prompts, answers)
    rows = [[expected(BASE, prompt, answer) for answer in answers] for prompt in prompts]
    np.testing.assert_allclose(result.logprobs, np.array(rows)[..., 0], atol=2e-5)
    np.testing.assert_array_equal(result.tokens, np.array(rows)[..., 1])


def test_a_prefix_counts_as_if_it_stood_before_the_prompt() -> None:
    codec = BASE.codec()[1]
    before = document(codec, "the cat ", False)[0]
    given = line(before)
    result = BASE.score_answers(["a hat"], [" cat", " mat of"], prefix=given)
    for k, answer in enumerate((" cat", " mat of")):
        prompt, full = (document(codec, x, False)[0] for x in ("a hat", "a hat" + answer))
        view = BASE._view("text", line(torch.cat([before, full])), reads())
        logprob = BASE.model(view).predictions["logits"][0].detach().log_softmax(dim=-1)
        first = len(before) + len(prompt) - 1
        rest = full[len(prompt) :].tolist()
        total = sum(float(logprob[first + i, token]) for i, token in enumerate(rest))
        assert result.logprobs[0, k] == pytest.approx(total, abs=2e-5)


def line(ids: torch.Tensor) -> Segment:
    """Ids as one row."""
    order = torch.arange(len(ids))[None]
    position = order[..., None].expand(-1, -1, 3)
    return Segment("text", ids[None], position, order, torch.zeros_like(order))


def reads() -> tuple[Predict, ...]:
    return (Predict("text", "logits"),)


def test_an_encoder_is_given_the_prompt() -> None:
    block: dict[str, Any] = TOWER["layers"][0]["block"]  # type: ignore[index]
    cross = {**block, "cross": {"name": "grouped", **HEADS}}
    towers = {"encoder": TOWER, "decoder": {**TOWER, "layers": [{"repeat": 2, "block": cross}]}}
    tree = {"modalities": {"bytes": {"name": "bytes"}}, "towers": towers}
    config = ModelConfig.from_tree(tree)
    model = config.build()
    initialise(model, 0)
    conditioning = EncoderConditioningConfig(source="bytes", target="bytes")
    usage = plain_usage("full", {"decoder": "causal"}).replace(conditioning=conditioning)
    base = Base(config, model.eval(), {"bytes": config.modalities["bytes"].fit([])}, usage)
    result = base.score_answers(["abc", "some other"], ["x", "yes"], modality="bytes")
    for i, prompt in enumerate(("abc", "some other")):
        for k, answer in enumerate(("x", "yes")):
            given = base.read([prompt], closed=True)
            begun = base._begun("bytes", [answer])
            view = conditioning.prompt(given, begun)
            stream = replace(view.streams[-1], readouts=(replace(reads()[0], head="bytes"),))
            logits = model(replace(view, streams=(view.streams[0], stream))).predictions["logits"]
            logprob = logits[0, :-1].log_softmax(dim=-1)
            total = logprob.gather(1, begun.values[0, 1:, None]).sum().detach()
            assert result.logprobs[i, k] == pytest.approx(float(total), abs=1e-5)
    assert result.tokens.tolist() == [[1, 3]] * 2


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="attention 'full'"):
        protein_base().score_answers(["ACD"], ["E"])
    with pytest.raises(DataError, match="adds no token"):
        BASE.score_answers(["a hat"], [" cat", ""])
