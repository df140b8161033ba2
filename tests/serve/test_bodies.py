"""Bodies that no client should send: each is answered, with a status below 500 and a reason."""

from __future__ import annotations

import copy
import json
import random
import string
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from broadbase.serve.api import api
from broadbase.serve.app import create
from support.bases import mixed_base, protein_base, text_base
from support.serving import service_of

JSON = {"host": "localhost", "content-type": "application/json"}
SEEDS = [
    ("/v1/completions", {"model": "tiny", "prompt": "the cat", "max_tokens": 2, "n": 1,
                         "echo": True, "logprobs": 1, "stop": ["x"], "seed": 1, "temperature": 0.5,
                         "top_p": 0.9, "stream": True, "stream_options": {"include_usage": True}}),
    ("/v1/completions", {"model": "tiny", "prompt": [[1, 2], [3]], "max_tokens": 1}),
    ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "a"}]}),
    ("/v1/embeddings", {"model": "tiny", "input": ["a", "b"], "encoding_format": "base64"}),
    ("/v1/embeddings", {"model": "mixed", "input": {"image": "iVBORw0KGgo="}, "modality": "image"}),
    ("/v1/images/generations", {"model": "mixed", "prompt": "a", "n": 1}),
    ("/b/neighbours", {"model": "encoder", "query": "MK", "records": ["MV", "MA"], "k": 1}),
    ("/b/predict/nothing", ["a"]),
]  # fmt: skip
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 10**6, 10**30, -(10**18), 0.5, 1e308),
    *(float("nan"), float("inf"), -float("inf")),
    *("", "a", "\x00", "\ud800", "\udfff x", "\U0010ffff", "é" * 50, "a" * 3000, "\u202e"),
    *("../../etc/passwd", "<|end|>"),
    *([], {}, [[]], [None], [1, "a"], [[1], [2.5]], [True], [10**20], ["\ud800"], ["a"] * 300),
    *({"a": 1}, {"\ud800": 1}, {"image": "AAAA"}, {"audio": "UklGRg=="}),
    {"type": "json_object"},
    [{"role": "user", "content": [{"type": "text", "text": "\udc00"}]}],
]
FIELDS = ("best_of", "logit_bias", "user", "tools", "response_format", "dimensions", "x", "\ud800")


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    bases = {"tiny": text_base(), "encoder": protein_base(), "mixed": mixed_base()}
    service = service_of(bases, context=64)
    app = create(service.settings, api(service))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    service.worker.close()


def check(client: TestClient, path: str, content: bytes) -> int:
    """Post a body, and check that its answer is one that a client understands."""
    answer = client.post(path, content=content, headers=JSON)
    assert answer.status_code < 500, (path, content[:300], answer.text[:300])
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert error["message"], content[:300]
        assert "Traceback" not in error["message"]
    elif answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.text.endswith("data: [DONE]\n\n"), (content[:300], answer.text[-300:])
    return answer.status_code


def nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a tree with each of its keys."""
    keys: Any = (
        tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    )
    for key in keys:
        yield tree, key
        yield from nodes(tree[key])


def mutated(rng: random.Random) -> tuple[str, bytes]:
    """A body that a client may send by a mistake, or to do harm."""
    path, tree = copy.deepcopy(rng.choice(SEEDS))
    for _ in range(rng.choice((1, 1, 2, 3))):
        container, key = rng.choice([*nodes(tree)] or [([0], 0)])
        match rng.randrange(6):
            case 0 if isinstance(container, dict):
                del container[key]
            case 1 if isinstance(tree, dict):
                tree[rng.choice(FIELDS)] = copy.deepcopy(rng.choice(ODD))
            case 2:
                container[key] = [copy.deepcopy(container[key]) for _ in range(rng.randrange(4))]
            case _:
                container[key] = copy.deepcopy(rng.choice(ODD))
    content = json.dumps(tree).encode()
    match rng.randrange(12):
        case 0:
            content = content[: rng.randrange(len(content) + 1)]
        case 1:
            at = rng.randrange(len(content))
            content = content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
        case 2:
            content = content.replace(b'"', b'"\xff', 1)
        case 3:
            content = content.replace(b"1", b"1" * rng.choice((30, 5000)), 1)
        case 4:
            deep = 10_000
            content = content.replace(b"1", b"[" * deep + b"]" * deep, 1)
        case 5:
            content = bytes(rng.choice(string.printable.encode()) for _ in range(rng.randrange(50)))
    return path, content


def test_mutated_bodies_are_answered(client: TestClient) -> None:
    rng = random.Random(0)
    statuses = {check(client, *mutated(rng)) for _ in range(300)}
    assert {200, 400, 404} <= statuses


@pytest.mark.slow
def test_ten_thousand_mutated_bodies_are_answered(client: TestClient) -> None:
    rng = random.Random(1)
    for _ in range(10_000):
        check(client, *mutated(rng))


DEEP = b"[" * 10_000 + b"]" * 10_000
WRONG = [
    b"", b"null", b"[]", b"0", b'"a"', b"{", b"\xff\xfe", b'{"model": "\xed\xa0\x80"}', b"NaN",
    DEEP, b'{"model": "tiny", "prompt": ' + DEEP + b"}", b'{"model":' * 5000,
    b'{"model": "tiny", "prompt": "a", "temperature": NaN}',
    b'{"model": "tiny", "prompt": "a", "temperature": Infinity}',
    b'{"model": "tiny", "prompt": "a", "temperature": 1e999}',
    b'{"model": "tiny", "prompt": "a", "seed": ' + b"9" * 5000 + b"}",
    b'{"model": "tiny", "prompt": "a", "max_tokens": 99999999999999999999999}',
    b'{"model": "tiny", "prompt": "\\ud800"}',
    b'{"model": "tiny", "prompt": "a", "\\ud800": 1}',
    b'{"model": "\\udfff", "prompt": "a"}',
    b'{"model": "tiny", "prompt": ["a", "\\udfff"]}',
]  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/b/predict/x"])
@pytest.mark.parametrize("content", WRONG, ids=range(len(WRONG)))
def test_wrong_bodies_are_refused(client: TestClient, path: str, content: bytes) -> None:
    assert 400 <= check(client, path, content) < 500


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def cases(client: TestClient) -> list[tuple[str, str, Any]]:
    """Every field of every body in the OpenAPI description, with a body that has the others."""
    tree = client.get("/openapi.json", headers=JSON).json()
    result = []
    for path, body in SEEDS:
        content = tree["paths"].get(path, {}).get("post", {}).get("requestBody", {})
        schema = content.get("content", {}).get("application/json", {}).get("schema", {})
        name = schema.get("$ref", "").rpartition("/")[2]
        fields = tree["components"]["schemas"].get(name, {}).get("properties", {})
        result += [(path, field, body) for field in fields]
    return result


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_value_of_any_field_is_answered(
    client: TestClient, cases: list[tuple[str, str, Any]], data: st.DataObject
) -> None:
    assert {path for path, _, _ in cases} >= {"/v1/completions", "/v1/embeddings", "/b/neighbours"}
    path, field, body = data.draw(st.sampled_from(cases))
    tree = {**body, field: data.draw(VALUES)}
    check(client, path, json.dumps(tree).encode())
