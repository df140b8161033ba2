"""Preferences: each loss is its formula, whatever the batch is cut into, and its reference is the
model as training starts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from broadbase.core.config import discover
from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import combine
from broadbase.core.view import Predict, Segment, Stream, View
from broadbase.data.rows import one_per_row
from broadbase.model.model import Model
from broadbase.objectives.preference import PreferenceLossConfig, mismatched
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.prepare import check_reference
from broadbase.train.ranks import Ranks
from broadbase.train.teacher import StartConfig
from support.chats import CHAT, chat_codec, chat_model, preferences, rows_of, talk
from support.training import CORRUPT, trainer

discover("objectives")
NAMES = sorted(PreferenceLossConfig.choices)
CODEC = chat_codec()
PAIRS = [
    (talk(row["prompt"], row["chosen"]), talk(row["prompt"], row["rejected"]))
    for row in preferences(6)
]


def segments(pairs: Any = PAIRS, length: int = 32) -> dict[str, Segment]:
    sides = zip(("chosen", "rejected"), zip(*pairs, strict=True), strict=True)
    return {name: rows_of(CODEC, side, length, one_per_row) for name, side in sides}


def batch(**changes: Any) -> Batch:
    return Batch(0, segments(**changes), KeyedRandom(0, 0))


def moved(model: Model) -> Model:
    """The model some way from where it was."""
    other = copy.deepcopy(model)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in other.parameters():
            noise = torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype)
            parameter += 0.05 * noise
    return other


def objective(name: str, **settings: Any) -> Any:
    return ObjectiveConfig.from_tree({"name": "preference", "by": {"name": name, **settings}})


def logprobs(model: Model, conversations: Any) -> tuple[Tensor, Tensor]:
    """The log-likelihood and the tokens of each last answer, by hand, one conversation a pass."""
    sums, counts = [], []
    for messages in conversations:
        sample = CODEC.encode(CHAT.clean(messages))
        ids = torch.tensor([[int(CODEC.start), *sample.values.tolist(), int(CODEC.end)]])
        line = torch.arange(ids.shape[1])[None, :, None].expand(-1, -1, 3)
        read = (Predict("text", "p"),)
        stream = Stream("main", "main", (Segment("text", ids, line),), "causal", readouts=read)
        logp = model(View((stream,))).predictions["p"][0].log_softmax(-1)
        answer = len(CODEC.by.encode(messages[-1]["content"]).values) + 1
        sums.append(sum(logp[-2 - i, ids[0, -1 - i]] for i in range(answer)))
        counts.append(answer)
    return torch.stack(sums), torch.tensor(counts, dtype=torch.float64)  # type: ignore[arg-type]


def formula(name: str, model: Model, start: Model) -> Tensor:
    """The mean loss over pairs as the papers write it, with the default settings."""
    chosen, rejected = zip(*PAIRS, strict=True)
    (w, n_w), (l, n_l) = logprobs(model, chosen), logprobs(model, rejected)  # noqa: E741
    with torch.no_grad():
        ref_w, ref_l = logprobs(start, chosen)[0], logprobs(start, rejected)[0]
        swapped = [[a[0], b[-1]] for a, b in zip(chosen, [*chosen[1:], chosen[0]], strict=True)]
        kl = logprobs(model, swapped)[0] - logprobs(start, swapped)[0]
    r_w, r_l = w - ref_w, l - ref_l
    sigmoid = torch.sigmoid
    if name == "dpo":
        return -torch.log(sigmoid(0.1 * r_w - 0.1 * r_l)).mean()
    if name == "ipo":
        return ((r_w / n_w - r_l / n_l - 1 / 0.2) ** 2).mean()
    if name == "kto":
        z = max(0.0, float(kl.mean()))
        return ((1 - sigmoid(0.1 * (r_w - z))) + (1 - sigmoid(0.1 * (z - r_l)))).mean()
    if name == "orpo":
        p_w, p_l = torch.exp(w / n_w), torch.exp(l / n_l)
        odds = (p_w / (1 - p_w)) / (p_l / (1 - p_l))
        return -w.sum() / n_w.sum() - 0.1 * torch.log(sigmoid(torch.log(odds))).mean()
    assert name == "simpo"
    return -torch.log(sigmoid(2.0 * (w / n_w - l / n_l) - 1.0)).mean()


def gradient(model: Model) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_there_are_five() -> None:
    assert NAMES == ["dpo", "ipo", "kto", "orpo", "simpo"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_loss_is_its_formula_however_a_batch_is_cut(name: str, pieces: int) -> None:
    """Value and gradient, the reference being where the model was before it moved."""
    start = chat_model()
    model = moved(start)
    expected = formula(name, model, start)
    expected.backward()
    wanted = gradient(model)
    model.zero_grad()
    t = trainer(model, "causal", pieces)
    t.objective = objective(name).build()
    t.teacher = StartConfig().build(start, Ranks(torch.device("cpu")), lambda _: start)
    totals, shares = t.accumulate(t.objective.views(batch(), CORRUPT))
    terms = {k: torch.tensor(v, dtype=torch.float64) for k, v in totals.items()}
    assert float(combine(terms, shares)) == pytest.approx(float(expected), rel=1e-10)
    assert (gradient(model) - wanted).norm() <= 1e-10 * wanted.norm()


def test_the_share_of_pairs_in_order_is_counted() -> None:
    model = chat_model()
    t = trainer(model, "causal")
    t.objective = objective("simpo").build()
    totals, shares = t.accumulate(t.objective.views(batch(), CORRUPT))
    (w, n_w), (l, n_l) = (logprobs(model, side) for side in zip(*PAIRS, strict=True))  # noqa: E741
    assert totals["preference/accuracy"] == float((w / n_w > l / n_l).sum())
    assert shares["preference/accuracy"].weight == len(PAIRS)
    assert shares["preference/accuracy"].scale == 0


def test_a_pair_whose_answer_is_cut_off_does_not_count() -> None:
    long = (talk("red " * 40, "a"), talk("red " * 40, "b"))
    made = objective("simpo").build()
    views = made.views(batch(pairs=[*PAIRS, long]), CORRUPT)
    assert made.term_weights(views)["preference"].weight == len(PAIRS)


def test_mismatched_answers_are_the_next_rows() -> None:
    segment = segments()["chosen"]
    other = mismatched(segment)
    swapped = [[a[0][0], b[0][1]] for a, b in zip(PAIRS, [*PAIRS[1:], PAIRS[0]], strict=True)]
    expected = rows_of(CODEC, swapped, 32, one_per_row)
    assert torch.equal(other.values * (expected.document >= 0), expected.values)  # type: ignore[operator]
    assert torch.equal(other.target_weight, expected.target_weight)


@pytest.mark.parametrize("teacher", [None, {"name": "ema"}, {"name": "frozen", "path": "OTHER"}])
def test_a_reference_of_another_model_is_refused(teacher: Any) -> None:
    tree = find_recipe("preference").build(1, "PATH").tree()
    with pytest.raises(ConfigError, match=r"starts from.*; set teacher\.name=start"):
        check_reference(RunConfig.from_tree({**tree, "teacher": teacher}))
    free = {**tree, "objective": objective("simpo").tree()}
    check_reference(RunConfig.from_tree({**free, "teacher": None}))


def test_answers_that_are_not_paired_are_refused() -> None:
    for name in ("preference", "reward"):
        config = ObjectiveConfig.from_tree({"name": name})
        with pytest.raises(ValueError, match="needs chosen and rejected row by row"):
            config.check({"chosen": None, "rejected": None})
        assert config.build().views(Batch(0, {}, KeyedRandom(0, 0)), CORRUPT) == ()


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_reward_is_compared_as_bradley_and_terry_do(pieces: int) -> None:
    model = chat_model()
    numbers = []
    for side in zip(*PAIRS, strict=True):
        rewards = []
        for messages in side:
            sample = CODEC.encode(CHAT.clean(messages))
            ids = torch.tensor([[int(CODEC.start), *sample.values.tolist(), int(CODEC.end)]])
            line = torch.arange(ids.shape[1])[None, :, None].expand(-1, -1, 3)
            stream = Stream("main", "main", (Segment("text", ids, line),), "causal")
            state = model(View((stream,))).streams["main"].x[0].mean(dim=0)
            rewards.append(model.spaces["reward"].predict(state[None, None])[0, 0, 0])
        numbers.append(torch.stack(rewards))
    expected = torch.log1p(torch.exp(numbers[1] - numbers[0])).mean()
    expected.backward()
    wanted = gradient(model)
    model.zero_grad()
    t = trainer(model, "causal", pieces)
    t.objective = ObjectiveConfig.named("reward")().build()
    totals, shares = t.accumulate(t.objective.views(batch(), CORRUPT))
    assert totals["reward"] / shares["reward"].weight == pytest.approx(float(expected), rel=1e-10)
    assert totals["reward/accuracy"] == float((numbers[0] > numbers[1]).sum())
    assert (gradient(model) - wanted).norm() <= 1e-10 * wanted.norm()
