"""Continuous batching in one process: 16 clients, beside answers one after another and in batches.

    python bench/serve_speed.py [--rounds 3] [--requests 48] [--clients 16] [--threads 2]

A GPT-2 of 124M with random weights answers the same requests, in turns (A B A B): prompts of 16 to
256 tokens, greedy answers of 16 to 128 tokens. Each client asks again when it has its answer.
"one after another" is `Base.generate` of a prompt when the one before is done; "static" is
`generate` of `--clients` prompts at once, which ends with the longest answer. "transformers" is its
continuous batching of the same weights, with a paged cache of `BLOCKS` blocks: by itself it takes
most of the memory. `serve_http.py` measures the same through the server, next to other servers.

Where others compute on the machine too, `--threads 1` with the CPU time in the last words of a row
says more than seconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from tokenizers import ByteLevelBPETokenizer

from broadbase.core.view import Segment, positions
from broadbase.data.samples.catalog import first
from broadbase.inference.autoregressive import SamplingConfig, generate
from broadbase.inference.base import Base
from broadbase.inference.batching import CHUNK, Batch, Completion
from broadbase.inference.documents import padded
from broadbase.weights.folder import load
from machine import Row, description, tell

VOCABULARY, GREEDY = 16_384, SamplingConfig(temperature=0)
BLOCKS, PAGE = 64, 256  # of transformers' cache, and tokens of a block


@dataclass
class Load:
    """What one way of answering made of all requests."""

    tokens: int = 0  # that were asked for
    seconds: float = 0
    cpu: float = 0  # seconds of all threads
    first: list[float] = field(default_factory=list)  # seconds from a request to its first token

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


Side = Callable[[Base, Sequence[Completion], int], list[float]]


def continuous(base: Base, wanted: Sequence[Completion], clients: int) -> list[float]:
    """Answer as requests come; return the seconds to the first token of each."""
    batch, due, first_token = Batch(base, rows=clients), deque(wanted), list[float]()
    began, arrived = time.perf_counter(), dict[int, float]()
    free = [began] * clients  # since when a client may ask
    while due or batch.live:
        while due and free and batch.fits(due[0]):
            arrived[batch.add(due.popleft())] = free.pop()
        for handle, new in batch.step():
            now = time.perf_counter()
            if handle in arrived:
                first_token.append(now - arrived.pop(handle))
            if new.finish is not None:
                free.append(now)
    return first_token


def one_after_another(base: Base, wanted: Sequence[Completion], clients: int) -> list[float]:
    """Answer one request when the one before is done; clients wait in line."""
    now, first_token = time.perf_counter(), list[float]()
    line = deque([now] * clients)
    for row in wanted:
        arrived = line.popleft()
        for number, _ in enumerate(drawn(base, [row])):
            now = time.perf_counter()
            if not number:
                first_token.append(now - arrived)
        line.append(now)
    return first_token


def static(base: Base, wanted: Sequence[Completion], clients: int) -> list[float]:
    """Answer as many requests as there are clients at once, all up to the longest answer."""
    now, first_token = time.perf_counter(), list[float]()
    for i in range(0, len(wanted), clients):
        rows, arrived = wanted[i : i + clients], now
        for number, _ in enumerate(drawn(base, rows)):
            now = time.perf_counter()
            if not number:
                first_token += [now - arrived] * len(rows)
    return first_token


def drawn(base: Base, rows: Sequence[Completion]) -> Iterator[torch.Tensor]:
    """Yield the new tokens [B,1] of prompts that are read and continued at once."""
    line = positions((max(len(row.prompt) + row.max_new_tokens for row in rows),))
    pairs = [(torch.tensor(row.prompt), line[: len(row.prompt)]) for row in rows]
    segment: Segment = padded(base.codec()[0], pairs)
    begins = torch.tensor([len(row.prompt) for row in rows])
    steps = range(max(row.max_new_tokens for row in rows))
    following = ((begins + step)[:, None].expand(-1, 3) for step in steps)
    yield from generate(base.model, segment, following, GREEDY.build())


def with_transformers(model: Any) -> Side:
    """Return what answers by transformers' continuous batching; it tells no time of a token."""

    def side(_: Base, wanted: Sequence[Completion], clients: int) -> list[float]:
        cache = hf.ContinuousBatchingConfig(
            num_blocks=BLOCKS,
            page_size=PAGE,
            max_batch_tokens=CHUNK + clients,
            max_requests_per_batch=clients,
        )
        greedy = hf.GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
        with model.continuous_batching_context_manager(
            generation_config=greedy, continuous_batching_config=cache, warmup=False
        ) as manager:
            for row in wanted:
                manager.add_request([*row.prompt], max_new_tokens=row.max_new_tokens)
            left = len(wanted)
            while left:
                result = manager.get_result(timeout=1)
                if result is not None and result.error is not None:
                    raise RuntimeError(result.error)
                left -= result is not None and result.is_finished()
        return []

    return side


SIDES: Mapping[str, Side] = {
    "continuous": continuous,
    "one after another": one_after_another,
    "static": static,
}


def measured(side: Side, base: Base, wanted: Sequence[Completion], clients: int) -> Load:
    """Answer all requests in one way."""
    load = Load(sum(row.max_new_tokens for row in wanted))
    began, spent = time.perf_counter(), time.process_time()
    load.first = side(base, wanted, clients)
    load.seconds, load.cpu = time.perf_counter() - began, time.process_time() - spent
    return load


def models() -> tuple[Base, Any]:
    """Return a GPT-2 with random weights, ours and that of transformers.

    Its tokenizer is trained on real text.
    """
    trained = ByteLevelBPETokenizer()
    texts = (str(record.raw) for record in first("passages", 2000))
    trained.train_from_iterator(texts, VOCABULARY, special_tokens=["<|end|>"], show_progress=False)
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, bos_token="<|end|>")
    hf.set_seed(0)
    config = hf.GPT2Config(bos_token_id=0, eos_token_id=None)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        reference = hf.GPT2LMHeadModel(config).eval()
        reference.save_pretrained(folder)
        return load(Path(folder)), reference


def requests(count: int) -> list[Completion]:
    """Return requests, the same each time."""
    chance = np.random.default_rng(0)
    made = []
    for _ in range(count):
        prompt = chance.integers(1, VOCABULARY, chance.integers(16, 257))
        made.append(Completion(tuple(prompt.tolist()), int(chance.integers(16, 129)), GREEDY))
    return made


def rows(loads: Mapping[str, Sequence[Load]]) -> Iterator[Row]:
    """Yield a row for each bar."""
    ours = loads["continuous"]
    goals = {"one after another": 4.0, "static": 0.8, "transformers": 1.3}
    for name, goal in goals.items():
        ratio = statistics.median(b.cpu / a.cpu for a, b in zip(ours, loads[name], strict=True))
        yield Row(
            "16 clients of a GPT-2 of 124M, continuous batching",
            [load.speed for load in ours],
            [load.speed for load in loads[name]],
            "tokens/s",
            name,
            goal,
            more=f"CPU time {ratio:.2f} times less",
        )
    yield Row(
        "median time to the first token of 16 clients",
        [statistics.median(load.first) for load in ours],
        [statistics.median(load.first) for load in loads["one after another"]],
        "s",
        "one after another",
        0.25,
        higher=False,
    )


def main() -> None:
    """Measure all sides in turns and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(description(), f"{options.threads} threads, torch {torch.__version__}", sep=", ")
    (base, reference), wanted = models(), requests(options.requests)
    sides = {**SIDES, "transformers": with_transformers(reference)}
    warm = [Completion(row.prompt[:16], 2, GREEDY) for row in wanted[:2]]
    loads: dict[str, list[Load]] = {name: [] for name in sides}
    for side in sides.values():
        side(base, warm, 2)
    for _ in range(options.rounds):
        for name, side in sides.items():
            loads[name].append(measured(side, base, wanted, options.clients))
            now = loads[name][-1]
            print(f"{name}: {now.seconds:.1f} s, {now.cpu:.1f} s of CPU", flush=True)
    tell(rows(loads))


if __name__ == "__main__":
    main()
