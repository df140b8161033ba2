"""How long a model folder takes to load, beside reading its files: the bar is 1.3 times as long.

python bench/loading.py [FAMILY ...] [--layers 12] [--rounds 9] [--threads 2]

Each reference, with random weights, is saved whole and in shards, and its files are in the page
cache, where what we add weighs most. Two readings are measured: of every file into memory that is
kept, as who loads them has to, and of one file after another into the same memory, which the system
hands out once. These and loading take turns (A B C A B C); of each the first does not count. Prints
the ratios load / read with their 95 % intervals.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf

from broadbase.weights.folder import load
from machine import description, ratio

SIZE = {"hidden_size": 768, "intermediate_size": 2048, "num_attention_heads": 12}
FAMILIES: dict[str, Callable[[int], Any]] = {
    "llama": lambda n: hf.LlamaForCausalLM(hf.LlamaConfig(**SIZE, num_hidden_layers=n)),
    "gpt2": lambda n: hf.GPT2LMHeadModel(hf.GPT2Config(n_layer=n)),
    "bert": lambda n: hf.BertForMaskedLM(hf.BertConfig(**SIZE, num_hidden_layers=n)),
    "t5": lambda n: hf.T5ForConditionalGeneration(hf.T5Config(d_model=768, num_layers=n)),
    "mixtral": lambda n: hf.MixtralForCausalLM(
        hf.MixtralConfig(**SIZE, num_hidden_layers=n // 4, num_key_value_heads=4)
    ),
}


def main() -> None:
    """A line for each family, whole and in shards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2, help="that load; one reads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(description(), f"{options.threads} threads, torch {torch.__version__}", sep=", ")
    print(
        "family               MB  ms: load  read, kept  read over  load / kept (95 %)  load / over"
    )
    for name in options.families:
        for shards in ("1GB", "60MB"):
            with tempfile.TemporaryDirectory() as folder:
                FAMILIES[name](options.layers).save_pretrained(folder, max_shard_size=shards)
                print(line(f"{name}, {shards}", Path(folder), options.rounds), flush=True)


def line(name: str, folder: Path, rounds: int) -> str:
    """Loading and both readings in turns."""
    files = sorted(folder.glob("*.safetensors"))
    sizes = [file.stat().st_size for file in files]
    room = bytearray(max(sizes))
    works: tuple[Callable[[], object], ...] = (
        lambda: load(folder),
        lambda: [file.read_bytes() for file in files],
        lambda: over(files, room),
    )
    took = np.array([[seconds(work) for work in works] for _ in range(rounds + 1)])[1:].T
    loading, kept, same = took
    times = "  ".join(f"{1000 * np.median(each):8.0f}" for each in took)
    ratios = "  ".join(
        "{1:.2f} ({0:.2f} to {2:.2f})".format(*ratio(loading, each)) for each in (kept, same)
    )
    return f"{name:16}  {sum(sizes) / 1e6:5.0f}  {times}  {ratios}"


def over(files: list[Path], room: bytearray) -> None:
    """All bytes, each file over the one before."""
    for file in files:
        with file.open("rb", buffering=0) as opened:
            assert opened.readinto(room) == file.stat().st_size


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    result = work()
    took = time.perf_counter() - began
    del result  # giving memory back does not count
    return took


if __name__ == "__main__":
    main()
