"""Who may ask: foreign hosts and pages, keys, tokens and sizes, over the real application."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, Request
from starlette.testclient import TestClient

from broadbase.core.errors import ConfigError
from broadbase.serve.app import create
from broadbase.serve.settings import ServeConfig

HOST = {"host": "127.0.0.1:8000"}


def echoing() -> APIRouter:
    router = APIRouter()

    @router.post("/v1/echo")
    async def echo(request: Request) -> dict[str, object]:
        return {"got": await request.json()}

    @router.post("/runs/stop")
    def stop() -> dict[str, bool]:
        return {"stopped": True}

    return router


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(create(ServeConfig(max_body_bytes=1000), [echoing()], token="secret"))


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", "", "127.0.0.2"])
def test_a_foreign_host_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/healthz", headers={"host": host})
    assert answer.status_code == 403
    assert "hosts" in answer.json()["error"]["message"]


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000"])
def test_the_machine_itself_is_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).json() == {"status": "ok"}


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:9999", "null", "http://[broken"]
)
def test_a_foreign_page_is_refused(client: TestClient, origin: str) -> None:
    answer = client.post("/v1/echo", json=1, headers=HOST | {"origin": origin})
    assert answer.status_code == 403


def test_a_page_of_the_server_is_answered(client: TestClient) -> None:
    headers = HOST | {"origin": "http://127.0.0.1:8000"}
    assert client.post("/v1/echo", json=[1], headers=headers).json() == {"got": [1]}


def test_what_changes_something_needs_the_token(client: TestClient) -> None:
    assert client.post("/runs/stop", headers=HOST).status_code == 403
    wrong = client.post("/runs/stop", headers=HOST | {"X-Broadbase-Token": "secre"})
    assert wrong.status_code == 403
    right = client.post("/runs/stop", headers=HOST | {"X-Broadbase-Token": "secret"})
    assert right.json() == {"stopped": True}


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused(client: TestClient, chunked: bool) -> None:
    body = b'"' + b"x" * 2000 + b'"'
    content = iter([body]) if chunked else body
    answer = client.post("/v1/echo", content=content, headers=HOST)
    assert answer.status_code == 413
    assert "1,000 bytes" in answer.json()["error"]["message"]


def test_every_answer_has_the_policy(client: TestClient) -> None:
    for path in ("/healthz", "/nowhere"):
        headers = client.get(path, headers=HOST).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
    assert "content-security-policy" in client.get("/", headers={"host": "evil"}).headers


def test_a_key_guards_the_api() -> None:
    client = TestClient(create(ServeConfig(api_key="k3y"), [echoing()]))
    for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": "k3y"}):
        assert client.post("/v1/echo", json=1, headers=HOST | given).status_code == 401
    right = {"authorization": "Bearer k3y"}
    assert client.post("/v1/echo", json=1, headers=HOST | right).status_code == 200
    assert client.get("/healthz", headers=HOST).status_code == 200


def test_other_machines_need_a_key() -> None:
    with pytest.raises(ConfigError, match="--api-key"):
        ServeConfig.from_tree({"host": "0.0.0.0"})
    served = ServeConfig.from_tree(
        {"host": "0.0.0.0", "api_key": "k", "allowed_hosts": ["Box.Local"]}
    )
    assert "box.local" in served.hosts
    assert "localhost" not in served.hosts
