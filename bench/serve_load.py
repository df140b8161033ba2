"""200 clients of one server for a minute, of which 30 % hang up at random: does it hold?

    python bench/serve_load.py [FOLDER] [--clients 200] [--seconds 60] [--leave 0.3]

Without a folder, a small base with random weights is served. Every complete answer is compared with
the one that the base draws alone, in this process. The memory of the server is that after a quarter
of the time and at the end. Exits with 1 where something is mixed up, starves or leaks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil

from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.weights.folder import load, save
from machine import description

ATTENTION = {"name": "grouped", "heads": 4, "kv_heads": 2, "head_dim": 16}
BLOCK = {"attention": ATTENTION, "feedforward": {"name": "gated", "hidden_width": 128}}
TREE = {
    "modalities": {"text": {"name": "text", "vocab_size": 512}},
    "towers": {
        "main": {"name": "transformer", "width": 64, "layers": [{"repeat": 4, "block": BLOCK}]}
    },
}
REQUESTS = 40  # different ones
FLAT, STARVED = 0.05, 5.0  # growth of memory; longest over median wait


@dataclass
class Seen:
    """What the clients saw."""

    waits: list[float] = field(default_factory=list)  # seconds to the first token
    right: int = 0
    left: int = 0  # answers that the client did not wait for
    refused: int = 0  # with 429
    wrong: list[str] = field(default_factory=list)


def made(folder: Path) -> Path:
    """A base with random weights, its tokenizer learned from this file."""
    config = ModelConfig.from_tree(TREE)
    model = config.build()
    initialise(model, 0)
    codec = config.modalities["text"].fit(Path(__file__).read_text().splitlines())
    save(Base(config, model.eval(), {"text": codec}), folder / "small")
    return folder / "small"


def requests(base: Base) -> list[tuple[dict[str, Any], str]]:
    """Bodies, each with the text that the base draws alone."""
    rng, words = random.Random(0), Path(__file__).read_text().split()
    result = []
    for seed in range(REQUESTS):
        prompt = " ".join(rng.choices(words, k=rng.randrange(4, 60)))
        new = rng.randrange(8, 64)
        body = {"prompt": prompt, "max_tokens": new, "seed": seed}
        sampling = SamplingConfig(temperature=seed % 2, seed=seed)
        text = base.generate(prompt, max_new_tokens=new, sampling=sampling)
        result.append(({**body, "temperature": seed % 2, "stream": seed % 4 < 3}, text))
    return result


async def client(
    http: httpx2.AsyncClient, cases: list[tuple[dict[str, Any], str]], number: int, end: float,
    leave: float, seen: Seen,
) -> None:  # fmt: skip
    """Ask, and hang up now and then, until the time is over."""
    rng = random.Random(number)
    while time.monotonic() < end:
        body, expected = rng.choice(cases)
        hangs_up = rng.random() < leave
        try:
            limit = rng.uniform(0, 2) if hangs_up else 120
            await asyncio.wait_for(one(http, body, expected, seen), limit)
        except TimeoutError:
            seen.left += 1
            if not hangs_up:
                seen.wrong.append("no answer in 120 s")


async def one(http: httpx2.AsyncClient, body: dict[str, Any], expected: str, seen: Seen) -> None:
    """Ask once, and compare the answer."""
    began, text, first = time.monotonic(), "", 0.0
    async with http.stream("POST", "/v1/completions", json=body) as answer:
        if answer.status_code == 429:
            seen.refused += 1
            await asyncio.sleep(float(answer.headers["retry-after"]))
            return
        if not body["stream"]:
            text = json.loads(await answer.aread())["choices"][0]["text"]
        else:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    first = first or time.monotonic() - began
                    text += json.loads(line[6:])["choices"][0]["text"]
    if body["stream"]:
        seen.waits.append(first)
    if text == expected:
        seen.right += 1
    else:
        seen.wrong.append(f"{body}: {text!r} is not {expected!r}")


async def load_of(
    url: str, cases: list[tuple[dict[str, Any], str]], options: argparse.Namespace, pid: int
) -> tuple[Seen, list[float]]:
    """Let the clients run; return what they saw, and the server's megabytes second by second."""
    seen, memory, process = Seen(), list[float](), psutil.Process(pid)
    end = time.monotonic() + options.seconds
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=options.clients)

    async def watch() -> None:
        while time.monotonic() < end:
            memory.append(process.memory_info().rss / 2**20)
            await asyncio.sleep(1)

    async with httpx2.AsyncClient(base_url=url, timeout=180, limits=limits) as http:
        clients = (client(http, cases, i, end, options.leave, seen) for i in range(options.clients))
        await asyncio.gather(watch(), *clients)
    return seen, memory


def main() -> None:
    """Serve, load, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--leave", type=float, default=0.3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or made(Path(name))
        cases = [({"model": folder.name, **b}, text) for b, text in requests(load(folder))]
        words = [sys.executable, "-m", "broadbase", "serve", str(folder), "--port", "0"]
        with (Path(name) / "log").open("w+") as log:
            server = subprocess.Popen(words, stderr=log)
            try:
                url = address(Path(name) / "log")
                seen, memory = asyncio.run(load_of(url, cases, options, server.pid))
                time.sleep(1)
                metrics = httpx2.get(f"{url}/metrics").text
            finally:
                server.terminate()
                code = server.wait()
    tell(seen, memory, metrics, code)


def address(log: Path) -> str:
    """Where the server listens, as its log says."""
    while (match := re.search(r"http://\S+", log.read_text())) is None:
        time.sleep(0.05)
    return match[0]


def tell(seen: Seen, memory: list[float], metrics: str, code: int) -> None:
    """Print what was seen, and exit with 1 where it is not as it must be."""
    quarter = len(memory) // 4
    before, after = (statistics.median(part) for part in (memory[quarter : 2 * quarter],
                                                          memory[-quarter:]))  # fmt: skip
    median, longest = statistics.median(seen.waits), max(seen.waits)
    drawn = re.search(r"broadbase_tokens_out_total (\d+)", metrics)
    live = re.search(r"broadbase_live_rows (\d+)", metrics)
    print(description())
    print(f"{seen.right:,} answers right, {len(seen.wrong)} wrong, {seen.left:,} left by clients,"
          f" {seen.refused:,} refused with 429")  # fmt: skip
    print(f"seconds to the first token: median {median:.2f}, longest {longest:.2f}:"
          f" {longest / median:.1f} times")  # fmt: skip
    print(f"memory of the server: {before:.0f} MB, at the end {after:.0f} MB: {after / before:.3f}")
    print("every tenth of the time, in MB:", *(f"{m:.0f}" for m in memory[:: len(memory) // 10]))
    print(
        f"tokens drawn: {drawn and drawn[1]}, rows that are left: {live and live[1]}, exit {code}"
    )
    for line in seen.wrong[:5]:
        print(line[:1000])
    failed = seen.wrong or after > before * (1 + FLAT) or longest > STARVED * median or code
    sys.exit(int(bool(failed)))


if __name__ == "__main__":
    main()
