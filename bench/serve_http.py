"""Serving over HTTP, beside `transformers serve` and llama.cpp's server: 16 clients of one model.

    python bench/serve_http.py [--rounds 3] [--clients 16] [--requests 64] [--threads 2]

A Llama of 110M with random weights and a tokenizer of 16,384 tokens trained here on real text is
saved by transformers; each server reads that folder (llama.cpp our GGUF of it, in fp32). Clients
stream greedy completions: prompts of 16 to 256 tokens of real text, answers of 16 to 128 tokens,
the same for all servers. Servers run one at a time, in turns (A B A B). "alone" is our server with
`--rows 1`: one answer after another.

llama.cpp's server is the program that $LLAMA_SERVER names, or `llama-server` on the PATH; without
one it is left out, and the report says so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import transformers as hf
from tokenizers import ByteLevelBPETokenizer

from broadbase.data.samples.catalog import first
from broadbase.weights.folder import load
from broadbase.weights.gguf import write_gguf
from machine import Row, description, peers, tell

VOCABULARY, CONTEXT = 16_384, 512
SIZES = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
READY = 180.0  # seconds that a server may take to answer for the first time


@dataclass(frozen=True)
class Request:
    """A prompt, and how many tokens are generated."""

    prompt: str
    tokens: int


@dataclass(frozen=True)
class Answer:
    """What a client saw: seconds to the first text and to the end, tokens by the server's count."""

    first: float
    seconds: float
    tokens: int


@dataclass(frozen=True)
class Load:
    """One server under all requests."""

    speed: float  # tokens a second, of all clients together
    first: float  # the median of seconds to the first text


def main() -> None:
    """Run all servers in turns and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without", nargs="*", default=[], help="Servers to leave out.")
    options = parser.parse_args()
    print(description(), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        texts = [str(record.raw) for record in first("passages", 4000)]
        folder = model(Path(scratch) / "model", texts)
        wanted = requests(folder, texts, options.requests)
        servers = {
            name: command
            for name, command in commands(folder, Path(scratch)).items()
            if name not in options.without
        }
        loads: dict[str, list[Load]] = {name: [] for name in servers}
        for _ in range(options.rounds):
            for name, command in servers.items():
                with running(name, command, options.threads, Path(scratch)) as (address, log):
                    loads[name].append(
                        asyncio.run(loaded(address, folder, wanted, options.clients))
                    )
                print(name, loads[name][-1], log.name, flush=True)
    tell(rows(loads))


def model(folder: Path, texts: Sequence[str]) -> Path:
    """Save a Llama of 110M with random weights, and a tokenizer trained on `texts`."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, VOCABULARY, special_tokens=["<|end|>"])
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, eos_token="<|end|>", bos_token="<|end|>"
    )
    tokenizer.save_pretrained(folder)
    hf.set_seed(0)
    config = hf.LlamaConfig(
        vocab_size=VOCABULARY,
        intermediate_size=2048,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        **SIZES,
    )
    hf.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def requests(folder: Path, texts: Sequence[str], count: int) -> list[Request]:
    """Return `count` requests, the same for a seed: prompts of real text."""
    chance = np.random.default_rng(0)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("\n".join(texts[:2000]))["input_ids"]
    made = []
    for _ in range(count):
        length, begin = int(chance.integers(16, 257)), int(chance.integers(len(ids) - 300))
        prompt = tokenizer.decode(ids[begin : begin + length])
        made.append(Request(prompt, int(chance.integers(16, 129))))
    return made


def commands(folder: Path, scratch: Path) -> dict[str, list[str]]:
    """Return the command of each server; {port} is filled in."""
    ours = [sys.executable, "-m", "broadbase", "serve", str(folder), "--port", "{port}"]
    serving = [str(peers("serving").parent / "transformers"), "serve", str(folder)]
    serving += ["--continuous-batching", "--device", "cpu", "--dtype", "float32"]
    servers = {
        "broadbase": ours,
        "alone": [*ours, "--rows", "1"],
        "transformers": [*serving, "--port", "{port}"],
    }
    program = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    if program is None:
        print("llama.cpp: no llama-server; name one with $LLAMA_SERVER", flush=True)
        return servers
    file = scratch / "model.gguf"
    write_gguf(load(folder), file)
    slots = ["--parallel", "16", "--ctx-size", str(16 * CONTEXT), "--no-webui"]
    cache = ["--cache-type-k", "f32", "--cache-type-v", "f32"]
    llama = [program, "--model", str(file), "--port", "{port}", *slots, *cache, "--threads", "2"]
    return {**servers, "llama.cpp": llama}


@contextmanager
def running(
    name: str, command: Sequence[str], threads: int, scratch: Path
) -> Iterator[tuple[str, Any]]:
    """Start a server, wait until it answers, and stop it at the end; yield its address and log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    words = [part.format(port=port) for part in command]
    with (scratch / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        try:
            wait(f"http://127.0.0.1:{port}", process, Path(log.name))
            yield f"http://127.0.0.1:{port}", log
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when a server lists its models; RuntimeError with its log where it does not."""
    end = time.monotonic() + READY
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx2.get(f"{address}/v1/models", timeout=2).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the server at {address} does not answer:\n{log.read_text()[-3000:]}")


async def loaded(address: str, folder: Path, wanted: Sequence[Request], clients: int) -> Load:
    """Send all requests, `clients` at a time, after one that warms the server up."""
    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(base_url=address, timeout=None, limits=limits) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        names = [entry["id"] for entry in listed]
        name = str(folder) if str(folder) in names else names[0]
        await answered(client, name, Request(wanted[0].prompt, 4))
        waiting, answers = iter(wanted), list[Answer]()

        async def one_client() -> None:
            for request in waiting:
                answers.append(await answered(client, name, request))

        began = time.perf_counter()
        await asyncio.gather(*(one_client() for _ in range(clients)))
        seconds = time.perf_counter() - began
    tokens = sum(answer.tokens for answer in answers)
    return Load(tokens / seconds, statistics.median(answer.first for answer in answers))


async def answered(client: httpx2.AsyncClient, name: str, request: Request) -> Answer:
    """Stream one completion."""
    body = {
        "model": name,
        "prompt": request.prompt,
        "max_tokens": request.tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began, first, tokens, chunks = time.perf_counter(), 0.0, 0, 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code != 200:
            raise RuntimeError(f"{response.status_code}: {(await response.aread())[:500]!r}")
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk: Mapping[str, Any] = json.loads(line[6:])
            if any(choice.get("text") for choice in chunk.get("choices", [])):
                first, chunks = first or time.perf_counter() - began, chunks + 1
            if usage := chunk.get("usage"):
                tokens = usage["completion_tokens"]
    return Answer(first, time.perf_counter() - began, tokens or chunks)


def rows(loads: Mapping[str, Sequence[Load]]) -> Iterator[Row]:
    """Yield a row for each bar: tokens a second, and seconds to the first text."""
    ours = [load.speed for load in loads["broadbase"]]
    bars = {"alone": 4.0, "transformers": 1.3, "llama.cpp": 1.0}
    for name, bar in bars.items():
        if name in loads:
            other = [load.speed for load in loads[name]]
            yield Row(f"serving 16 clients, beside {name}", ours, other, "tokens/s", name, bar)
    first = [1 / load.first for load in loads["broadbase"]]
    alone = [1 / load.first for load in loads["alone"]]
    yield Row("median time to the first text", first, alone, "1/s", "alone", 4.0)


if __name__ == "__main__":
    main()
