"""Adapters of one served base: each is a model, and all are drawn in one batch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from broadbase.core.errors import ConfigError
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.inference.batching import Batch, Completion
from broadbase.inference.likelihood import prompt_ids
from broadbase.nn.adapters.adapter import AdapterConfig
from broadbase.nn.adapters.dora import DoRAConfig
from broadbase.nn.adapters.ia3 import IA3Config
from broadbase.nn.adapters.lora import LoRAConfig
from broadbase.nn.adapters.mixed import mixed
from broadbase.serve.served import Served
from broadbase.serve.service import Service
from broadbase.serve.settings import ServeConfig
from broadbase.serve.worker import Worker
from broadbase.weights.folder import load, save
from broadbase.weights.peft import read_adapter, with_adapter, write_adapter
from support.adapters import random_adapter
from support.bases import protein_base, text_base
from support.serving import serving

PROMPT, NEW, GREEDY = "the cat and a hat", 10, SamplingConfig(temperature=0)
KINDS: dict[str, AdapterConfig] = {
    "one": LoRAConfig(rank=2, alpha=8),
    "two": DoRAConfig(rank=3, targets=("q", "v")),
    "three": IA3Config(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    save(text_base(), folder / "base")
    base = load(folder / "base")
    for i, (name, kind) in enumerate(KINDS.items()):
        write_adapter(random_adapter(base.model, kind, i), base, folder / name, "base")
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Base]:
    """The base, and one with each adapter merged."""
    base = load(folder / "base")
    merged = {name: with_adapter(base, read_adapter(folder / name, base)) for name in KINDS}
    return {"base": base, **merged}


def answer(base: Base) -> str:

    return base.generate(PROMPT, max_new_tokens=NEW, sampling=GREEDY)


def test_rows_of_a_batch_have_their_own_adapters(alone: dict[str, Base], folder: Path) -> None:
    """Joining at different steps, each row draws what its adapter draws alone."""
    base = alone["base"]
    own = {name: read_adapter(folder / name, base) for name in KINDS}
    batch = Batch(base, rows=4, adapters=mixed(base.model, own))
    ids, texts, names = prompt_ids(base, PROMPT), dict[int, str](), dict[int, str]()
    for name in ("two", "base", "one", "three"):
        adapter = None if name == "base" else name
        names[batch.add(Completion(ids, NEW, GREEDY, adapter=adapter))] = name
        for handle, token in batch.step():
            texts[handle] = texts.get(handle, "") + token.text
    while batch.live:
        for handle, token in batch.step():
            texts[handle] = texts.get(handle, "") + token.text
    assert {names[k]: text for k, text in texts.items()} == {k: answer(alone[k]) for k in alone}
    assert len({*texts.values()}) == 4
    with pytest.raises(ConfigError, match="no adapter is called 'thre'; did you mean `three`"):
        batch.add(Completion(ids, NEW, GREEDY, adapter="thre"))


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[openai.OpenAI]:
    config = ServeConfig()
    served = Served.with_adapters([folder / "base"], {k: folder / k for k in KINDS}, "cpu")
    service = Service(served, Worker(config.queue, config.rows), config)
    with serving(service) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_an_adapter_is_a_model(client: openai.OpenAI, alone: dict[str, Base]) -> None:
    assert [model.id for model in client.models.list()] == ["base", *KINDS]

    def ask(name: str) -> str:
        body = {"model": name, "prompt": PROMPT, "max_tokens": NEW, "temperature": 0}
        return client.completions.create(**body).choices[0].text  # type: ignore[call-overload, no-any-return]

    names = [*alone] * 3
    with ThreadPoolExecutor(len(names)) as pool:
        answers = [*pool.map(ask, names)]
    assert answers == [answer(alone[name]) for name in names]


def test_what_an_adapter_cannot_do_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="'one' is an adapter"):
        client.embeddings.create(model="one", input="a cat")
    with pytest.raises(openai.BadRequestError, match="echo: 'one' is an adapter"):
        client.completions.create(model="one", prompt=PROMPT, echo=True, logprobs=1, max_tokens=1)
    with pytest.raises(openai.NotFoundError, match="base, one, two, three"):
        client.completions.create(model="four", prompt=PROMPT)


def test_adapters_that_cannot_be_served_are_refused(folder: Path, tmp_path: Path) -> None:
    save(protein_base(), tmp_path / "other")
    save(protein_base("causal"), tmp_path / "causal")
    one = {"one": folder / "one"}
    for folders, adapters, message in (
        ([folder / "base", tmp_path / "other"], one, "of one base"),
        ([folder / "base"], {"base": folder / "one"}, "'base' is the name of a folder"),
        ([tmp_path / "other"], one, "does not generate token by token"),
    ):
        with pytest.raises(ConfigError, match=message):
            Served.with_adapters(folders, adapters, "cpu")


def test_8_bits_keep_the_adapters(folder: Path, alone: dict[str, Base]) -> None:
    served = Served.with_adapters(
        [folder / "base"], {k: folder / k for k in KINDS}, "cpu", Base.eight_bit
    )
    base, mixture = served.bases["base"], served.mixtures["base"]
    batch = Batch(base, rows=4, adapters=mixture)
    ids = prompt_ids(base, PROMPT)
    first = {}
    for name in alone:
        adapter = None if name == "base" else name
        completion = Completion(ids, 1, GREEDY, logprobs=5, adapter=adapter)
        handle = batch.add(completion)
        first[name] = dict(batch.step())[handle]
    assert len({token.top for token in first.values()}) == 4
