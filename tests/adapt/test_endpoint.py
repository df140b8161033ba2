"""A base behind an OpenAI-compatible server: our own on loopback, and servers that misbehave."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from broadbase.adapt.compare import compare
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.endpoint import Endpoint, Pieces
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.methods.prompt import PromptConfig
from broadbase.adapt.openai_client import KEY, SECONDS, Client, endpoint_address
from broadbase.adapt.task import Task
from broadbase.commands.app import app
from broadbase.core.errors import ConfigError, EndpointError
from support.bases import text_base
from support.serving import service_of, serving

BASE = text_base()
NONE = np.zeros(0, dtype=np.int64)
Answer = tuple[int, Any, dict[str, str]]  # status, body, headers
Ask = Callable[[str, dict[str, Any], dict[str, str]], Answer]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(service_of({"tiny": BASE})) as url:
        yield f"{url}/v1#tiny"


@contextlib.contextmanager
def scripted(ask: Ask) -> Iterator[str]:
    """A server that answers as `ask` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, tree, headers = ask(self.path, body, dict(self.headers))
            content = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1#m"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def echo(text: str) -> dict[str, Any]:
    """A token for each character, each of log-probability -1."""
    lists = {"tokens": [*text], "text_offset": [*range(len(text))]}
    return {
        "text": text,
        "logprobs": {**lists, "token_logprobs": [None] + [-1.0] * (len(text) - 1)},
    }


def completions(change: Callable[[dict[str, Any]], Any] = lambda choice: choice) -> Ask:
    """A server with `echo`, whose answers are changed after the first request."""
    requests = list[str]()

    def ask(path: str, body: dict[str, Any], _: Any) -> Answer:
        if not path.endswith("/v1/completions"):
            return 404, {}, {}
        choices = [{"index": i, **echo(text)} for i, text in enumerate(body["prompt"])]
        requests.append(path)
        if len(requests) > 1:
            choices = [change(choice) for choice in choices]
        return 200, {"choices": choices[::-1]}, {}

    return ask


def chat(said: Callable[[str], str]) -> Ask:
    """A server with chats alone."""

    def ask(path: str, body: dict[str, Any], _: Any) -> Answer:
        if not path.endswith("/chat/completions"):
            return 404, {"error": {"message": "no such route"}}, {}
        text = said(body["messages"][0]["content"])
        return 200, {"choices": [{"index": 0, "message": {"content": text}}]}, {}

    return ask


def task() -> Task:
    raws = [f"{'the cat sat' if i % 2 else 'a hat of'} {i}" for i in range(40)]
    return Task.from_records("t", "text", raws, ["cat" if i % 2 else "mat" for i in range(40)])


def test_answers_are_as_likely_as_here(address: str) -> None:
    endpoint, answers = Endpoint.open(address), [" cat", " a mat of", " \u00e9t\u00e9"]
    prompts = ["the cat and\nlabel:", "a hat", "n\u00e4he \U0001f600:"]
    result, expected = (base.score_answers(prompts, answers) for base in (endpoint, BASE))
    np.testing.assert_allclose(result.logprobs, expected.logprobs, atol=2e-4)
    np.testing.assert_array_equal(result.tokens, expected.tokens)


def test_scores_are_those_of_the_base_here(address: str) -> None:
    endpoint, method = Endpoint.open(address), PromptConfig(shots=4, orders=3)
    results = [
        compare(base, task(), method, [8], 10, 2, random_init=False)[0] for base in (endpoint, BASE)
    ]
    assert results[0].scores == results[1].scores
    assert results[0].members == results[1].members
    assert "no number of parameters" in results[0].remarks[0]
    assert results[1].remarks == ()


def test_texts_are_those_of_the_base_here(address: str) -> None:
    prompts, endpoint = ["the cat", "a hat"], Endpoint.open(address)
    written = PromptConfig(by="generation", template="{}")
    texts = [
        written.fit(Encoder(base, "text"), task(), NONE).texts(Inputs(prompts), 0)  # type: ignore[attr-defined]
        for base in (endpoint, BASE)
    ]
    assert texts[0] == texts[1]


def test_the_commands_adapt_an_endpoint(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{raw},{'x' if i % 2 else 'y'}" for i, raw in enumerate(task().raws)]
    Path("d.csv").write_text("\n".join(["text,label", *rows]))
    words = ["adapt", address, "--data", "d.csv", "--method", "prompt", "--train-size", "0"]
    done = CliRunner().invoke(app, [*words, "--splits", "2", "--test-size", "9", "--out", "out"])
    assert done.exit_code == 0, done.output
    assert "no vectors of its layers" in done.output
    assert "random init" not in done.output.split("is an endpoint")[-1].split("compare with")[-1]
    saved = json.loads(Path("out/adapted.json").read_text())
    assert saved["base"] == {"path": address, "sha256": "", "copied": False}
    done = CliRunner().invoke(app, ["predict", "out", "--data", "d.csv"])
    assert done.exit_code == 0, done.output
    assert done.output.count("d.csv:") == 40
    copied = CliRunner().invoke(app, [*words, "--out", "other", "--copy-base"])
    assert "cannot be copied" in str(copied.exception)
    probe = CliRunner().invoke(app, ["adapt", address, "--data", "d.csv", "--no-baselines"])
    assert isinstance(probe.exception, ConfigError)
    assert "gives no vectors" in str(probe.exception)


def test_without_echo_classes_are_read_from_a_chat() -> None:
    with scripted(chat(lambda prompt: "A cat." if "cat sat" in prompt else "mat")) as address:
        endpoint = Endpoint.open(address)
        (row,) = compare(endpoint, task(), PromptConfig(), [0], 10, 2, random_init=False)
        assert row.scores == (1.0, 1.0)
        assert "no log-probabilities of a prompt" in row.remarks[1]
        with pytest.raises(ConfigError, match="no log-probabilities"):
            compare(endpoint, task(), PromptConfig(by="likelihood"), [0], 10, 2)
        with pytest.raises(ConfigError, match="gives no vectors"):
            compare(endpoint, task(), ProbeConfig(), [10], 10, 2, random_init=False)
        nearest = PromptConfig(shots=2, choice="nearest")
        with pytest.raises(ConfigError, match="no vectors to choose examples by"):
            compare(endpoint, task(), nearest, [10], 10, 2, random_init=False)


def change(name: str, value: Callable[[list[Any]], list[Any]]) -> Callable[..., Any]:
    """Change one of the lists of an answer."""

    def changed(choice: dict[str, Any]) -> dict[str, Any]:
        lists = choice["logprobs"]
        return {**choice, "logprobs": {**lists, name: value(lists[name])}}

    return changed


LIES: list[tuple[Callable[..., Any], str]] = [
    (lambda choice: {**choice, "text": "another"}, "the text 'another' instead of"),
    (lambda choice: {**choice, "logprobs": None}, "no lists tokens"),
    (change("tokens", lambda x: x[:-1]), "tokens, .* log-probabilities, .* offsets"),
    (change("token_logprobs", lambda x: x[:-1]), "tokens, .* log-probabilities"),
    (change("tokens", lambda x: x[::-1]), "where the text has"),
    (change("token_logprobs", lambda x: [*x[:-1], 3.0]), "the log-probability 3.0 of the token"),
    (change("token_logprobs", lambda x: [*x[:-1], None]), "the log-probability None"),
    (change("text_offset", lambda x: x[::-1]), "which do not rise"),
    (change("text_offset", lambda x: [each + 1 for each in x]), "where the text has"),
]


@pytest.mark.parametrize(("lie", "message"), LIES, ids=[message for _, message in LIES])
def test_a_lie_about_echo_is_named(lie: Callable[..., Any], message: str) -> None:
    with scripted(completions()) as address:
        honest = Endpoint.open(address).score_answers(["ab"], ["c", "cde"])
        assert honest.logprobs.tolist() == [[-1.0, -3.0]]
    with scripted(completions(lie)) as address:
        endpoint = Endpoint.open(address)
        with pytest.raises(EndpointError, match=message) as error:
            endpoint.score_answers(["ab"], ["c", "cde"])
        assert address in str(error.value)
        assert "by=generation" in str(error.value)


FAILURES: list[tuple[Answer, str]] = [
    (
        (401, {"error": {"message": "no key"}}, {}),
        f"status 401: 'no key'; put its key into .*{KEY}",
    ),
    ((404, {}, {}), "status 404: .*check the address"),
    ((500, b"oops", {}), "status 500: 'oops'"),
    ((200, b"<html>", {}), "which is no JSON object"),
    ((200, {"choices": []}, {}), "gives 0 answers to 1 prompts"),
    ((302, b"", {"Location": "http://127.0.0.1:9/v1/completions"}), "status 302"),
]


@pytest.mark.parametrize(("answer", "message"), FAILURES, ids=[m for _, m in FAILURES])
def test_failures_name_the_endpoint(answer: Answer, message: str) -> None:
    with scripted(lambda *_: answer) as address:
        with pytest.raises(EndpointError, match=message) as error:
            Endpoint.open(address)
        assert address in str(error.value)


def test_an_endpoint_that_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS, "0.2")

    def slow(*_: Any) -> Answer:
        time.sleep(0.6)
        return 200, {}, {}

    with (
        scripted(slow) as address,
        pytest.raises(EndpointError, match=f"does not answer within 0.2 s; .*{SECONDS}"),
    ):
        Endpoint.open(address)
    with pytest.raises(EndpointError, match="cannot be reached"):
        Endpoint.open(address)
    monkeypatch.setenv(SECONDS, "soon")
    with pytest.raises(ConfigError, match="no number of seconds"):
        Client.at(address)


def test_a_busy_server_is_tried_again() -> None:
    honest, times = completions(), list[int]()

    def ask(*given: Any) -> Answer:
        times.append(1)
        return (429, {}, {"Retry-After": "0"}) if len(times) < 3 else honest(*given)

    with scripted(ask) as address:
        assert Endpoint.open(address).echo
    assert len(times) == 3


def test_the_key_is_sent_to_the_endpoint_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, honest = list[str | None](), completions()

    def ask(path: str, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        seen.append(headers.get("Authorization"))
        return honest(path, body, headers)

    monkeypatch.setenv(KEY, "secret")
    with scripted(ask) as address:
        Endpoint.open(address)
    assert seen == ["Bearer secret"]
    with pytest.raises(ConfigError, match="unencrypted"):
        Client.at("http://example.com/v1#m")
    with pytest.raises(ConfigError, match="holds no key"):
        Client.at("https://me:pass@example.com/v1#m")


def test_addresses() -> None:
    assert endpoint_address(Path("https://host/v1#a/b")) == "https://host/v1#a/b"
    assert endpoint_address("runs/x#1") is None
    assert endpoint_address("sample:minilm") is None


@pytest.mark.parametrize("text", ["", "abc", "abcd", "\u00e4\u00f6\u00fc abcde"])
def test_pieces_are_written_back(text: str) -> None:
    codec = Pieces()
    sample = codec.encode(text)
    assert codec.decode(sample.values, sample.grid) == text
    assert len(sample.values) == -(-len(text.encode()) // 4)
