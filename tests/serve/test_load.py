"""Clients that hang up, stall, come in numbers, or ask for too much; and how a server ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from broadbase.inference.batching import Batch
from broadbase.serve.running import Server
from broadbase.serve.service import Service
from broadbase.serve.traffic import Gate
from broadbase.weights.folder import save
from support.bases import text_base
from support.serving import service_of, serving

BODY = {"model": "tiny", "prompt": "the cat", "seed": 0}
LONG = {**BODY, "max_tokens": 8000}


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def service() -> Service:
    base = text_base()
    base.codec()[1].end = None  # no answer ends by itself
    return service_of({"tiny": base}, rows=2, queue=2)


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    with serving(service) as url:
        yield url


def post(url: str, body: Any, **more: Any) -> Any:
    return httpx2.post(f"{url}/v1/completions", json=body, timeout=300, **more)


@pytest.mark.parametrize("stream", [False, True])
def test_a_row_is_free_when_its_client_hangs_up(service: Service, url: str, stream: bool) -> None:
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({**LONG, "stream": stream}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, int(port))) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: service.worker.live == 1)
        if stream:
            assert b"200 OK" in client.recv(1000)
    until(lambda: service.worker.live == 0, 2)


def test_a_client_that_hangs_up_while_it_waits_is_forgotten(service: Service, url: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(post, url, {**BODY, "max_tokens": 1000}) for _ in range(2)]
        until(lambda: service.worker.live == 2)
        with pytest.raises(httpx2.TimeoutException):
            httpx2.post(f"{url}/v1/completions", json=LONG, timeout=0.05)
        until(lambda: service.worker.waiting == 0)
        assert not any(each.done() for each in running)
        assert all(each.result().status_code == 200 for each in running)
    until(lambda: service.worker.live == 0 and service.worker.waiting == 0, 2)


def test_a_full_queue_says_when_to_ask_again(url: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = [*pool.map(lambda _: post(url, {**BODY, "max_tokens": 100}), range(16))]
    refused = [answer for answer in answers if answer.status_code == 429]
    right = [answer for answer in answers if answer.status_code == 200]
    assert len(refused) + len(right) == 16
    assert len(right) >= 4
    assert refused
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert len({answer.json()["choices"][0]["text"] for answer in right}) == 1


def test_a_stalled_client_does_not_stop_others(service: Service, url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({**LONG, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        stalled.connect((host, int(port)))
        stalled.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: service.worker.live == 1)
        assert post(url, {**BODY, "max_tokens": 20}).status_code == 200


def test_an_answer_has_a_limit_of_time() -> None:
    base = text_base()
    base.codec()[1].end = None
    service = service_of({"tiny": base}, seconds=0.2)
    with serving(service) as url:
        assert post(url, LONG).status_code == 504
        stream = post(url, {**LONG, "stream": True}).text
        assert "more than 0.2 s" in stream
        assert "[DONE]" not in stream
        until(lambda: service.worker.live == 0, 2)


def test_an_error_in_a_step_ends_its_answers_alone(
    service: Service, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "step", lambda _: 1 / 0)
        assert post(url, {**BODY, "max_tokens": 4}).status_code == 500
    assert post(url, {**BODY, "max_tokens": 4}).status_code == 200
    assert service.worker.live == 0


def test_counts_are_in_the_form_of_prometheus(url: str) -> None:
    post(url, {**BODY, "max_tokens": 4})
    post(url, {**BODY, "max_tokens": -4})
    lines = httpx2.get(f"{url}/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['broadbase_requests_total{route="/v1/completions",status="200"}'] == "1"
    assert values['broadbase_requests_total{route="/v1/completions",status="400"}'] == "1"
    assert values["broadbase_tokens_out_total"] == "4"
    assert values["broadbase_first_token_seconds_count"] == "1"
    assert values['broadbase_first_token_seconds_bucket{le="+Inf"}'] == "1"
    assert values["broadbase_live_rows"] == values["broadbase_waiting"] == "0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(text_base(), tmp_path / "tiny")
    return tmp_path / "tiny"


def start(folder: Path, *options: str) -> tuple[subprocess.Popen[str], str, list[str]]:
    """A server in a process of its own, its address, and the lines of its log."""
    words = [sys.executable, "-m", "broadbase", "serve", str(folder), "--port", "0", *options]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = [process.stderr.readline()]
    assert "http://" in lines[0], lines
    stderr = process.stderr
    threading.Thread(target=lambda: lines.extend(stderr), daemon=True).start()
    return process, lines[0].split()[-1], lines


def ended(process: subprocess.Popen[str], url: str) -> int:
    """The exit code after SIGTERM, which came during an answer; that ends, and no other begins."""
    with ThreadPoolExecutor(1) as pool, httpx2.Client(base_url=url) as client:
        body = {**BODY, "max_tokens": 1000, "n": 8, "prompt": "secret", "temperature": 0}
        answer = pool.submit(post, url, body)
        until(lambda: "broadbase_live_rows 8" in client.get("/metrics").text)
        process.send_signal(signal.SIGTERM)
        until(lambda: client.get("/healthz").status_code == 503)
        refused = client.post("/v1/completions", json=BODY)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        choices = answer.result().json()["choices"]
        assert [choice["finish_reason"] for choice in choices] == ["length"] * 8
    return process.wait(60)


def test_killed_it_leaves_nothing_behind_and_ended_it_lets_answers_end(folder: Path) -> None:
    process, url, lines = start(folder, "--log-prompts")
    first = post(url, {**BODY, "max_tokens": 9}).json()["choices"]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: "the cat" in "".join(lines))
    assert {path.name for path in folder.parent.iterdir()} == {"tiny"}
    process, url, lines = start(folder, "--grace", "60")
    try:
        assert post(url, {**BODY, "max_tokens": 9}).json()["choices"] == first
        assert ended(process, url) == 0
    finally:
        process.kill()
    until(lambda: "".join(lines).count("POST /v1/completions 200") == 2)
    assert "secret" not in "".join(lines)


def test_a_second_signal_ends_at_once() -> None:
    gate = Gate(in_flight=1)
    server = Server(uvicorn.Config(FastAPI()), gate, 30)
    for expected in (False, True):
        server.handle_exit(signal.SIGTERM, None)
        assert gate.draining
        assert asyncio.run(server.on_tick(1)) == expected
