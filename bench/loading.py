"""How long a model folder takes to load, beside reading its files: the bar is 1.3 times as long.

python bench/loading.py [FAMILY ...] [--layers 12] [--rounds 9]

Each reference, with random weights, is saved whole and in shards. Reading and loading take turns
(A B A B) with the files in the page cache, where what we add weighs most; of each the first does
not count. Prints the ratio load / read with its 95 % interval.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from scipy import stats

from broadbase.weights.folder import load
from machine import description

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
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(description(), f"torch {torch.__version__}", sep=", ")
    print("family               MB  ms to load  to read  load / read (95 %)")
    for name in options.families:
        for shards in ("1GB", "60MB"):
            with tempfile.TemporaryDirectory() as folder:
                FAMILIES[name](options.layers).save_pretrained(folder, max_shard_size=shards)
                print(line(f"{name}, {shards}", Path(folder), options.rounds), flush=True)


def line(name: str, folder: Path, rounds: int) -> str:
    """Reading and loading in turns."""
    files = sorted(folder.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    took = np.array(
        [[seconds(lambda: read(files)), seconds(lambda: load(folder))] for _ in range(rounds + 1)]
    )
    reading, loading = took[1:].T
    ratio = np.log(loading / reading)
    half = stats.t.ppf(0.975, len(ratio) - 1) * stats.sem(ratio)
    low, middle, high = np.exp([ratio.mean() - half, ratio.mean(), ratio.mean() + half])
    times = f"{1000 * np.median(loading):10.0f}  {1000 * np.median(reading):7.0f}"
    return f"{name:16}  {size / 1e6:5.0f}  {times}  {middle:.2f} ({low:.2f} to {high:.2f})"


def read(files: list[Path]) -> int:
    """All bytes, one file after the other."""
    return sum(len(file.read_bytes()) for file in files)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
