"""The nearest-neighbour language model: equal to the paper's formula, and exact search."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from broadbase.core.errors import ConfigError
from broadbase.index.knn_lm import Predicted, interpolated, nearest, predicted
from broadbase.inference.likelihood import prompt_ids, prompt_logprobs, token_states
from support.bases import TEXTS, protein_base, text_base


def test_a_text_is_predicted_as_its_likelihood_says() -> None:
    base = text_base()
    read = predicted(base, TEXTS[:1])
    expected = [x for x, _ in prompt_logprobs(base, prompt_ids(base, TEXTS[0]))]
    np.testing.assert_allclose(read.logprobs, expected, atol=1e-5)
    assert read.keys.shape == (len(expected), 16)


def test_long_texts_are_read_in_windows_that_predict_each_token_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, text = text_base(), " ".join(TEXTS * 3)
    unbroken = predicted(base, [text])
    monkeypatch.setattr("broadbase.index.knn_lm.LONGEST", 8)
    parts = predicted(base, [text])
    assert parts.tokens.tolist() == unbroken.tokens.tolist()
    np.testing.assert_allclose(parts.logprobs[:7], unbroken.logprobs[:7], atol=1e-5)


def test_the_interpolation_is_equation_3_written_out() -> None:
    base = text_base()
    store, read = predicted(base, TEXTS[1:]), predicted(base, TEXTS[:1])
    k, weight, temperature = 5, 0.3, 2.0
    near = nearest(store, read.keys, k)
    result = interpolated(read, near, weight, temperature)
    for t in range(len(read.tokens)):
        distances = ((store.keys - read.keys[t]) ** 2).sum(dim=1)
        order = distances.argsort()[:k]
        np.testing.assert_allclose(near.distances[t], distances[order], rtol=1e-3, atol=1e-4)
        shares = torch.exp(-distances[order] / temperature)
        same = shares[store.tokens[order] == read.tokens[t]].sum() / shares.sum()
        expected = weight * float(same) + (1 - weight) * math.exp(read.logprobs[t])
        assert float(result[t]) == pytest.approx(math.log(expected), rel=1e-3)


def test_its_own_text_is_predicted_better_and_without_weight_nothing_changes() -> None:
    base = text_base()
    read = predicted(base, TEXTS)
    near = nearest(read, read.keys, 1)
    np.testing.assert_allclose(interpolated(read, near, 0.0, 1.0), read.logprobs, atol=1e-5)
    assert interpolated(read, near, 0.5, 1.0).sum() > read.logprobs.sum() / 2


def test_states_and_likelihoods_come_from_one_forward() -> None:
    base = text_base()
    ids = prompt_ids(base, TEXTS[0])
    keys, logprobs = token_states(base, ids)
    assert keys.shape[0] == logprobs.shape[0] == len(ids) - 1
    np.testing.assert_allclose(logprobs.exp().sum(dim=1), 1, atol=1e-5)


def test_a_base_that_sees_both_sides_is_refused() -> None:
    with pytest.raises(ConfigError, match="causal"):
        predicted(protein_base("full"), ["MKV"])


def test_a_datastore_smaller_than_k_is_searched_in_full() -> None:
    store = Predicted(torch.eye(3), torch.arange(3), torch.zeros(3))
    assert nearest(store, torch.eye(3), 10).tokens.shape == (3, 3)
