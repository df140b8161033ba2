"""Completions through OpenAI's own client: the answers are those of the base in this process."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import torch

from broadbase.core.usage import DataFacts
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.objectives.documents import Document
from broadbase.objectives.fim import FillInMiddleConfig, to_fim
from broadbase.weights.folder import load, save
from support.bases import protein_base, text_base
from support.serving import service_of, serving

PROMPT = "the cat and a hat"


@pytest.fixture(scope="module")
def base() -> Base:
    return text_base()


@pytest.fixture(scope="module")
def url(base: Base) -> Iterator[str]:
    with serving(service_of({"tiny": base, "encoder": protein_base()})) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def complete(client: openai.OpenAI, **body: Any) -> Any:
    return client.completions.create(**{"model": "tiny", "prompt": PROMPT, **body})


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "encoder"]
    assert client.models.retrieve("tiny").id == "tiny"


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_completion_is_what_the_base_generates(
    client: openai.OpenAI, base: Base, temperature: int
) -> None:
    answer = complete(client, max_tokens=12, temperature=temperature, seed=5, top_p=0.9)
    sampling = SamplingConfig(temperature=temperature, seed=5, top_p=0.9)
    expected = base.generate(PROMPT, max_new_tokens=12, sampling=sampling)
    assert answer.choices[0].text == expected
    assert answer.usage.prompt_tokens == 1 + len(base.codec()[1].encode(PROMPT).values)
    assert answer.usage.completion_tokens <= 12


def test_n_answers_of_several_prompts_are_those_of_a_batch(
    client: openai.OpenAI, base: Base
) -> None:
    prompts = [PROMPT, "a mat"]
    answer = complete(client, prompt=prompts, n=3, max_tokens=8, seed=2**40)
    raws = [prompt for prompt in prompts for _ in range(3)]
    sampling = SamplingConfig(seed=2**40)
    expected = base.generate_batch(raws, max_new_tokens=8, sampling=sampling)
    assert [choice.text for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == [*range(6)]


def test_answers_do_not_depend_on_other_clients(client: openai.OpenAI, base: Base) -> None:
    def ask(seed: int) -> str:
        text: str = complete(client, max_tokens=10 + seed, seed=seed).choices[0].text
        return text

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(16)))
    for seed, text in enumerate(together):
        sampling = SamplingConfig(seed=seed)
        assert text == base.generate(PROMPT, max_new_tokens=10 + seed, sampling=sampling)


def test_without_a_seed_answers_differ(client: openai.OpenAI) -> None:
    texts = {complete(client, max_tokens=12).choices[0].text for _ in range(3)}
    assert len(texts) > 1


def test_a_stream_is_the_answer_token_by_token(client: openai.OpenAI) -> None:
    body: dict[str, Any] = {"max_tokens": 12, "seed": 3, "n": 2}
    answer = complete(client, **body)
    chunks = [*complete(client, **body, stream=True, stream_options={"include_usage": True})]
    *parts, last = chunks
    assert len(parts) > 4
    assert last.usage == answer.usage
    assert not last.choices
    for choice in answer.choices:
        own = [c for part in parts for c in part.choices if c.index == choice.index]
        assert "".join(c.text for c in own) == choice.text
        assert [c.finish_reason for c in own][-1] == choice.finish_reason
        assert not any(c.finish_reason for c in own[:-1])


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_text_ends_an_answer_and_is_left_out(
    client: openai.OpenAI, base: Base, stream: bool
) -> None:
    sampling = SamplingConfig(seed=7)
    full = base.generate(PROMPT, max_new_tokens=40, sampling=sampling)
    stop = full[10:12]
    answer = complete(client, max_tokens=40, seed=7, stop=[stop, "never"], stream=stream)
    choices = [part.choices[0] for part in answer] if stream else [answer.choices[0]]
    assert "".join(choice.text for choice in choices) == full[: full.index(stop)]
    assert choices[-1].finish_reason == "stop"


def test_prompt_log_probabilities_are_those_of_the_logits(
    client: openai.OpenAI, base: Base
) -> None:
    answer = complete(client, max_tokens=0, echo=True, logprobs=3).choices[0]
    codec = base.codec()[1]
    ids = codec.encode(PROMPT).values
    expected = base.logits(PROMPT)[:-1].log_softmax(dim=-1)
    lists = answer.logprobs
    assert answer.text == PROMPT
    assert lists.token_logprobs[0] is None
    assert lists.top_logprobs[0] is None
    given = np.array(lists.token_logprobs[1:])
    assert given == pytest.approx(expected[torch.arange(len(ids)), ids].numpy(), abs=1e-4)
    assert "".join(lists.tokens[1:]) == PROMPT
    assert lists.text_offset == [0, *np.cumsum([0, *map(len, lists.tokens[1:-1])]).tolist()]
    for row, top in zip(expected, lists.top_logprobs[1:], strict=True):
        best = row.topk(3).values.tolist()
        assert sorted(top.values(), reverse=True)[:3] == pytest.approx(best, abs=1e-4)
        assert len(top) in (3, 4)


def test_ids_are_a_prompt_as_they_are(client: openai.OpenAI, base: Base) -> None:
    codec = base.codec()[1]
    ids = [int(codec.start), *codec.encode(PROMPT).values.tolist()]
    body: dict[str, Any] = {"max_tokens": 6, "seed": 1, "echo": True, "logprobs": 0}
    text, given = complete(client, **body), complete(client, prompt=ids, **body)
    assert given.choices[0].text == text.choices[0].text
    assert given.choices[0].logprobs.tokens == text.choices[0].logprobs.tokens
    both = complete(client, prompt=[ids, ids[:3]], max_tokens=1)
    assert len(both.choices) == 2


def test_log_probabilities_of_new_tokens(client: openai.OpenAI, base: Base) -> None:
    answer = complete(client, max_tokens=8, seed=4, logprobs=2).choices[0]
    text = PROMPT
    codec = base.codec()[1]
    for token, logprob, top in zip(
        answer.logprobs.tokens,
        answer.logprobs.token_logprobs,
        answer.logprobs.top_logprobs,
        strict=True,
    ):
        if token.startswith("token_id:"):
            break
        row = base.logits(text)[-1].log_softmax(dim=-1)
        encoded = codec.encode(token).values
        if codec.encode(text + token).values.tolist() != [*codec.encode(text).values, *encoded]:
            break  # the ids that were drawn are not those of the text
        assert logprob == pytest.approx(float(row[int(encoded[0])]), abs=1e-4)
        assert top[token] == logprob
        text += token


REFUSED = [
    ({"logit_bias": {"1": 5}}, "logit_bias"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"frequency_penalty": 1}, "frequency_penalty"),
    ({"best_of": 4}, "best_of"),
    ({"n": 9}, "n"),
    ({"n": 0}, "n"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", ""]}, "stop"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"logprobs": 6}, "logprobs"),
    ({"temperature": -1}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"suffix": "x"}, "fill in the middle"),
    ({"prompt": [[1], "a"]}, "prompt"),
    ({"prompt": [10_000]}, "10000 is no id"),
    ({"prompt": []}, "prompt"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 10**6}, "context of 8192 tokens"),
    ({"model": "encoder"}, "cannot generate"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_is_not_supported_is_refused(url: str, change: dict[str, Any], message: str) -> None:
    body = {"model": "tiny", "prompt": PROMPT, **change}
    answer = httpx2.post(f"{url}/v1/completions", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_what_changes_nothing_is_accepted(client: openai.OpenAI) -> None:
    complete(
        client, max_tokens=1, user="me", logit_bias={}, presence_penalty=0, best_of=1, seed=None
    )


def test_there_is_no_other_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="tiny, encoder"):
        complete(client, model="gpt-4")


def filling_base() -> Base:
    """A base that learned to fill in, with random weights."""
    base = text_base()
    text = base.config.modalities["text"].replace(extra_ids=3)
    tree = {**base.config.tree(), "modalities": {"text": text.tree()}}
    config = ModelConfig.from_tree(tree)
    model = config.build()
    initialise(model, 1)
    sentinels = config.modalities["text"].corruption_of(base.codec()[1]).sentinels
    usage = FillInMiddleConfig().usage(DataFacts({"s": "text"}, {}, {"text": sentinels}))
    return Base(config, model.eval(), base.codecs, usage)


def test_a_suffix_is_filled_in_before_as_in_training(tmp_path: Path) -> None:
    """The prompt is what the objective makes of a document, its middle left out."""
    save(filling_base(), tmp_path / "fim")
    base = load(tmp_path / "fim")  # its folder says which ids the marks are
    codec = base.codec()[1]
    prefix, suffix = "the cat", " a hat"
    parts = [codec.encode(text).values.tolist() for text in (prefix, "M", suffix)]
    ids = torch.tensor([int(codec.start), *parts[0], *parts[1], *parts[2], 1])
    i, j = 1 + len(parts[0]), 1 + len(parts[0]) + len(parts[1])
    marks = base.usage.infilling["text"]
    document = Document(ids, torch.ones(len(ids)))
    trained = to_fim(document, i, j, len(ids) - 1, marks, suffix_first=False).values.tolist()
    with serving(service_of({"fim": base})) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        body: dict[str, Any] = {"model": "fim", "max_tokens": 8, "seed": 2}
        given = client.completions.create(**body, prompt=prefix, suffix=suffix)
        same = client.completions.create(**body, prompt=trained[: trained.index(marks[2]) + 1])
    assert given.choices[0].text == same.choices[0].text
    assert given.usage == same.usage
