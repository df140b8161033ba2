"""Continuous batching: every row is as alone, whatever joins and leaves."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.errors import BroadbaseError, ConfigError, DataError, ResourceError
from broadbase.core.view import Segment, positions
from broadbase.inference.autoregressive import SamplingConfig, generate
from broadbase.inference.base import Base
from broadbase.inference.batching import CHUNK, Batch, Completion
from broadbase.inference.decoding import Speller
from broadbase.inference.likelihood import prompt_ids, prompt_logprobs
from broadbase.inference.usages import plain_usage
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.weights.folder import load
from support.bases import TEXTS, base_of, protein_base, text_base
from support.models import TOWER
from support.references import DECODERS, saved

GREEDY = SamplingConfig(temperature=0)
PROMPTS = ["the", "", "the cat sat on the mat", "a cat", "hat of", "on the mat and a hat"]


def completion(base: Base, text: str | None, new: int = 12, **more: Any) -> Completion:
    return Completion(prompt_ids(base, text), new, **more)


def answers(batch: Batch) -> dict[int, str]:
    """Run a batch to its end."""
    texts: dict[int, str] = {}
    for _ in range(10_000):
        if not batch.live:
            return texts
        for handle, new in batch.step():
            assert new.error is None, new.error
            texts[handle] = texts.get(handle, "") + new.text
    raise AssertionError("the batch does not end")


@pytest.fixture(scope="module")
def base() -> Base:
    return text_base()


def ids_alone(base: Base, row: Completion) -> list[int]:
    """Draw the tokens of a row as `generate` does, without a batch that others share."""
    space, given = base.codec()[0], torch.tensor([row.prompt])
    place = positions((len(row.prompt) + row.max_new_tokens,))
    segment = Segment(space, given, place[: len(row.prompt)][None])
    steps = generate(base.model, segment, place[len(row.prompt) :], row.sampling.build())
    return [int(values[0, 0]) for values in steps]


TOWERS: dict[str, dict[str, Any]] = {
    "rotary, grouped heads": {},
    "learned positions": {"positions": {"name": "learned", "num_positions": 256}},
    "bias by distance": {"positions": {"name": "t5_bias", "buckets": 8, "max_distance": 20}},
    "window": {"attention": {"span": {"name": "window", "length": 5}}},
    "normed queries": {"attention": {"qk_norm": {"name": "rms"}}},
}


@lru_cache
def base_with(name: str) -> Base:
    """A base of texts whose tower differs from others in one thing."""
    change, base = TOWERS[name], text_base()
    block: Any = TOWER["layers"][0]["block"]  # type: ignore[index]
    attention = {**block["attention"], **change.get("attention", {})}
    layers = [{"repeat": 2, "block": {**block, "attention": attention}}]
    more = {k: v for k, v in change.items() if k != "attention"}
    towers = {"main": {**TOWER, "layers": layers, **more}}
    config = ModelConfig.from_tree({**base.config.tree(), "towers": towers})
    model = config.build()
    initialise(model, 1)
    return replace(base, config=config, model=model.eval())


@settings(max_examples=15, deadline=None)
@given(
    joins=st.lists(st.integers(0, 20), min_size=1, max_size=8),
    rows=st.integers(1, 5),
    tokens=st.sampled_from([None, 60, 100]),
    leaves=st.sets(st.integers(0, 7)),
    temperature=st.sampled_from([0.0, 1.0]),
    name=st.sampled_from([*TOWERS]),
)
def test_rows_that_join_and_leave_are_as_alone(
    joins: list[int],
    rows: int,
    tokens: int | None,
    leaves: set[int],
    temperature: float,
    name: str,
) -> None:
    base = base_with(name)
    batch, due = Batch(base, rows=rows, tokens=tokens), sorted(enumerate(joins), key=lambda x: x[1])
    drawn = [SamplingConfig(temperature=temperature, seed=i) for i in range(len(joins))]
    wanted = {
        i: completion(base, PROMPTS[i % len(PROMPTS)], 4 + 3 * i, sampling=drawn[i])
        for i in range(len(joins))
    }
    handles, ids, gone = dict[int, int](), dict[int, list[int]](), set[int]()
    texts: dict[int, str] = {}
    step = 0
    while due or batch.live:
        while due and due[0][1] <= step and batch.fits(wanted[due[0][0]]):
            i = due.pop(0)[0]
            handles[batch.add(wanted[i])] = i
            ids[i], texts[i] = [], ""
        assert batch.live <= rows
        for handle, new in batch.step():
            i = handles[handle]
            assert i not in gone
            ids[i].append(new.id)
            texts[i] += new.text
            if i in leaves and len(ids[i]) > 3 and new.finish is None:
                batch.remove(handle)
                gone.add(i)
        room = batch.cache.shape
        assert tokens is None or room[0] * room[1] <= tokens
        step += 1
    for i in wanted.keys() - gone:
        expected = base.generate(
            PROMPTS[i % len(PROMPTS)], max_new_tokens=4 + 3 * i, sampling=drawn[i]
        )
        assert texts[i] == expected
        assert ids[i] == ids_alone(base, wanted[i])[: len(ids[i])]


@pytest.mark.parametrize("name", DECODERS)
def test_every_family_of_decoders(name: str, tmp_path: Path) -> None:
    """Windows, learned places, caps, sinks, experts, biases: the logits of rows as alone."""
    saved(DECODERS[name], tmp_path)
    base = load(tmp_path)
    batch, chance = Batch(base), torch.Generator().manual_seed(0)
    prompts = [torch.randint(4, 90, (n,), generator=chance).tolist() for n in (3, 17, 9)]
    ids: dict[int, list[int]] = {}
    scores: dict[int, list[float]] = {}

    def ran(steps: int) -> None:
        for _ in range(steps):
            for handle, new in batch.step():
                ids[handle] = [*ids.get(handle, []), new.id]
                assert new.logprob is not None
                scores[handle] = [*scores.get(handle, []), new.logprob]

    handles = []
    for prompt in prompts:
        handles.append(batch.add(Completion(tuple(prompt), 10, GREEDY, logprobs=0)))
        ran(4)
    ran(12)
    assert not batch.live
    for handle, prompt in zip(handles, prompts, strict=True):
        alone = prompt_logprobs(base, [*prompt, *ids[handle]])
        expected = [logprob for logprob, _ in alone][len(prompt) - 1 :]
        assert scores[handle] == pytest.approx(expected, abs=2e-4), name
        free = ids_alone(base, Completion(tuple(prompt), 10, GREEDY))
        assert ids[handle] == free[: len(ids[handle])], name


def test_stops_and_characters_are_never_cut(base: Base) -> None:
    """What is streamed so far is always a beginning of what `generate` returns."""
    drawn = SamplingConfig(seed=3)
    free = base.generate("the cat", max_new_tokens=60, sampling=drawn)
    stop = (free[20:23],)
    expected = base.generate("the cat", max_new_tokens=60, sampling=drawn, stop=stop)
    batch = Batch(base)
    batch.add(completion(base, "the cat", 60, sampling=drawn, stop=stop))
    pieces = []
    while batch.live:
        pieces += [new.text for _, new in batch.step()]
        assert stop[0] not in "".join(pieces)
        assert expected.startswith("".join(pieces))
    assert "".join(pieces) == expected
    assert len([piece for piece in pieces if piece]) > 3


@settings(max_examples=40, deadline=None)
@given(
    prompt=st.lists(st.integers(0, 299), min_size=1, max_size=60),
    new=st.lists(st.integers(0, 299), min_size=1, max_size=20),
)
def test_text_is_that_after_all_of_the_prompt(prompt: list[int], new: list[int]) -> None:
    """Only the end of a prompt is decoded with what follows it, where that makes no difference."""
    codec = base_with("window").codec()[1]
    speller, pieces = Speller(codec, prompt), list[str]()
    for n, token in enumerate(new, 1):
        piece, ended = speller.add(token)
        pieces.append(piece)
        if ended:
            new = new[: n - 1]
            break
    text = str(codec.continuation(np.array(prompt), np.array(new, dtype=np.int64)))
    assert "".join(pieces) + speller.rest() == text


def test_bytes_and_proteins() -> None:
    """Other codecs of ids are batched too."""
    for base, prompts in (
        (base_of("bytes", [text.encode() for text in TEXTS]), [b"the", b"a cat"]),
        (protein_base("causal"), ["MKT", "ACDEFGHIK"]),
    ):
        batch = Batch(base)
        handles = [batch.add(completion(base, prompt, 8, sampling=GREEDY)) for prompt in prompts]  # type: ignore[arg-type]
        texts = answers(batch)
        alone = [base.generate(p, max_new_tokens=8, sampling=GREEDY) for p in prompts]
        assert [texts[handle] for handle in handles] == [str(text) for text in alone]


def test_a_long_prompt_is_read_in_parts(base: Base) -> None:
    """While it is read the other rows go on, and its answer is that of the whole prompt."""
    long = "the cat sat on the mat and " * 100
    assert len(prompt_ids(base, long)) > 2 * CHUNK
    batch = Batch(base)
    short = batch.add(completion(base, "a", 30, sampling=GREEDY))
    batch.step()
    last = batch.add(completion(base, long, 5, sampling=GREEDY))
    during = 0
    while batch.waiting:
        during += sum(handle == short for handle, _ in batch.step())
    assert during >= 3
    texts = answers(batch)
    assert base.generate(long, max_new_tokens=5, sampling=GREEDY).endswith(texts[last])


def test_memory_stays_as_it_is(base: Base) -> None:
    """After the first rows no buffer grows, however many rows come and go."""
    batch, sizes = Batch(base, rows=4), list[int]()
    for i in range(200):
        while not batch.fits(row := completion(base, PROMPTS[i % 6], 4, sampling=GREEDY)):
            batch.step()
        handle = batch.add(row)
        batch.step()
        if i % 3 == 0:
            batch.remove(handle)
        layer: Any = batch.cache.layers[0]
        sizes.append(layer._k.numel())
    assert sizes[-1] == sizes[20]


def test_a_row_that_fails_leaves_the_others(base: Base) -> None:
    """Numbers that are not finite end their row alone."""
    batch = Batch(base)
    good = batch.add(completion(base, "the", 6, sampling=GREEDY))
    bad = batch.add(completion(base, "a cat", 6, sampling=GREEDY))
    batch.step()
    row = next(i for i, row in enumerate(batch.running) if row.handle == bad)
    layer: Any = batch.cache.layers[0]
    with torch.inference_mode():
        layer._k[row] = torch.nan
    ends: dict[int, str | None] = {}
    text = ""
    while batch.live:
        for handle, new in batch.step():
            ends[handle] = new.finish
            text += new.text if handle == good else ""
            if handle == bad:
                assert isinstance(new.error, DataError)
    assert ends == {good: "length", bad: "error"}
    assert base.generate("the", max_new_tokens=6, sampling=GREEDY).endswith(text)


def test_nothing_is_left_of_a_row_that_failed(base: Base) -> None:
    """A shorter row in its place never reads what it left, even as a weight of 0."""
    batch = Batch(base, rows=2)
    row = completion(base, "the", 8, sampling=GREEDY)
    batch.add(completion(base, "the cat sat on the mat and the hat", 20, sampling=GREEDY))
    bad = batch.add(completion(base, "on the mat and a hat", 20, sampling=GREEDY))
    batch.step()
    layers: Any = batch.cache.layers
    with torch.inference_mode():
        for layer in layers:
            layer._v[1] = torch.nan
    assert [new.finish for handle, new in batch.step() if handle == bad] == ["error"]
    last, ids = batch.add(row), list[int]()
    while batch.live:
        ids += [new.id for handle, new in batch.step() if handle == last]
    assert ids == ids_alone(base, row)


def test_a_short_prompt_does_not_wait_for_a_long_one(base: Base) -> None:
    batch = Batch(base)
    batch.add(completion(base, "the cat sat on the mat and " * 100, 2))
    short = batch.add(completion(base, "a", 2))
    assert not batch.step()
    assert [handle for handle, _ in batch.step()] == [short]


def test_a_row_without_room_is_refused(base: Base) -> None:
    """What does not fit now is no row, and what fits later is."""
    batch = Batch(base, rows=1)
    first = batch.add(completion(base, "a", 3))
    with pytest.raises(ResourceError, match="1 of 1 rows are live"):
        batch.add(completion(base, "a", 3))
    batch.remove(first)
    batch.add(completion(base, "a", 3))


def test_buffers_take_the_shape_of_the_rows(base: Base) -> None:
    """Many short rows after one long one, in a budget that has no room for both shapes."""
    batch = Batch(base, rows=8, tokens=128)
    for rows, new in ((1, 100), (8, 6), (2, 40)):
        wanted = [completion(base, "a", new, sampling=SamplingConfig(seed=i)) for i in range(rows)]
        handles = [batch.add(row) for row in wanted]
        ids: dict[int, list[int]] = {handle: [] for handle in handles}
        while batch.live:
            for handle, token in batch.step():
                ids[handle].append(token.id)
            room = batch.cache.shape
            assert room[0] * room[1] <= 128
        for handle, row in zip(handles, wanted, strict=True):
            assert ids[handle] == ids_alone(base, row)[: len(ids[handle])]


def test_what_can_never_be_run_is_refused(base: Base) -> None:
    batch = Batch(base, tokens=40)
    with pytest.raises(ConfigError, match="memory for 40 tokens"):
        batch.add(completion(base, "a", 60))
    with pytest.raises(ConfigError, match="stop"):
        batch.check(completion(base, "a", stop=("",)))
    with pytest.raises(ConfigError, match="one to generate"):
        batch.check(completion(base, "a", 0))
    assert batch.fits(completion(base, "a", 30))
    batch.add(completion(base, "a", 30))
    assert not batch.fits(completion(base, "a", 30))
    with pytest.raises(ConfigError, match="use `generate`"):
        Batch(protein_base("full"))


def test_a_prompt_longer_than_the_context_is_refused(tmp_path: Path) -> None:
    saved(DECODERS["gpt2"], tmp_path)
    base = load(tmp_path)
    longest = int(base.config.max_length(base.codec()[0]))
    with pytest.raises(BroadbaseError, match=f"positions for {longest}"):
        Batch(base).check(Completion((5,) * longest, 1))


def test_probabilities_of_a_prompt(base: Base) -> None:
    """They are those of `Base.logits`, and the likeliest come first."""
    ids = prompt_ids(base, TEXTS[0])
    logprob_NV = base.logits(TEXTS[0]).log_softmax(dim=-1)
    rows = prompt_logprobs(base, ids, 3)
    for i, (value, top) in enumerate(rows):
        assert value == pytest.approx(float(logprob_NV[i, ids[i + 1]]), abs=1e-5)
        assert top[0][1] == pytest.approx(float(logprob_NV[i].max()), abs=1e-5)
        assert len(top) == 3


def test_bytes_of_a_token(base: Base) -> None:
    """The budget counts what the buffers hold."""
    batch = Batch(base)
    batch.add(completion(base, "the cat", 4, sampling=GREEDY))
    batch.step()
    layers: Any = batch.cache.layers
    numbers = sum(2 * layer._k[0, :, 0].numel() for layer in layers)
    assert base.token_bytes("main") == 4 * numbers


def test_usage_of_a_base_that_fills_gaps() -> None:
    base = base_of("text", TEXTS, "full")
    assert not Batch.supports(base)
    assert Batch.supports(base_of("text", TEXTS))
    assert plain_usage("full").generator is None
