"""Published families here and in transformers: forward and backward, same weights, same run.

python bench/families.py [FAMILY ...] [--rounds 7] [--threads 2]

Each reference is built at the size below with random weights, saved, and loaded here; both compute
the same batch in one process, in turns (A B A B). Prints medians, and the ratio theirs / ours of
each round with its 95 % interval: above 1 is faster here.
"""

from __future__ import annotations

import argparse
import os
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
from torch import Tensor

from broadbase.core.view import Read, Segment, Stream, View, positions
from broadbase.model.base import Base, prompts
from broadbase.weights.folder import load
from machine import description

ROWS, PLACES, VOCABULARY = 8, 256, 8192
WIDTH = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6}
HEADS = {"num_attention_heads": 6}
TEXT = {**WIDTH, **HEADS, "vocab_size": VOCABULARY, "max_position_embeddings": 512}
PICTURE = {**WIDTH, **HEADS, "image_size": 128, "patch_size": 8}
T5 = {"d_model": 384, "d_ff": 1024, "num_layers": 4, "num_heads": 6, "d_kv": 64}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, num_key_value_heads=6)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(
        hf.Qwen3Config(**TEXT, num_key_value_heads=2, head_dim=64)
    ),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=VOCABULARY, n_embd=384, n_layer=6, n_head=6, n_positions=512)
    ),
    "bert": lambda: hf.BertForMaskedLM(hf.BertConfig(**TEXT)),
    "esm": lambda: hf.EsmForMaskedLM(
        hf.EsmConfig(**TEXT, pad_token_id=1, mask_token_id=2, position_embedding_type="rotary")
    ),
    "vit": lambda: hf.ViTModel(hf.ViTConfig(**PICTURE), add_pooling_layer=False),
    "t5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(**T5, vocab_size=VOCABULARY, decoder_start_token_id=0, dropout_rate=0.0)
    ),
}


def main() -> None:
    """A line for each family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(description(), f"{options.threads} threads, torch {torch.__version__}", sep=", ")
    print(f"transformers {hf.__version__}, fp32; {ROWS} rows of {PLACES} places")
    print("family    ms here  ms there  there / here, forward and backward (95 %)")
    for name in options.families:
        print(line(name, options.rounds), flush=True)


def line(name: str, rounds: int) -> str:
    """One family: the same loss by both, then timed in turns."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        reference = FAMILIES[name]().eval()
        reference.save_pretrained(folder)
        base = load(Path(folder))
    mine, theirs = both(base, reference)
    with torch.no_grad():
        a, b = mine(), theirs()
    assert torch.allclose(a, b, atol=1e-3), f"{name}: {(a - b).abs().max()} apart"
    seconds: dict[str, list[float]] = {"mine": [], "theirs": []}
    for _ in range(rounds + 1):
        for key, forward in (("mine", mine), ("theirs", theirs)):
            began = time.perf_counter()
            forward().square().mean().backward()
            seconds[key].append(time.perf_counter() - began)
    ours, other = (np.array(seconds[key][1:]) for key in ("mine", "theirs"))  # the first warms up
    ratio = np.log(other / ours)
    half = stats.t.ppf(0.975, len(ratio) - 1) * stats.sem(ratio)
    low, middle, high = np.exp([ratio.mean() - half, ratio.mean(), ratio.mean() + half])
    times = f"{1000 * np.median(ours):8.0f}  {1000 * np.median(other):8.0f}"
    return f"{name:8}  {times}  {middle:.2f} ({low:.2f} to {high:.2f})"


def both(base: Base, reference: Any) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Ours and theirs: the same batch to the same numbers."""
    rng = torch.Generator().manual_seed(0)
    if "image" in base.config.modalities:
        size = PICTURE["image_size"]
        pixels = torch.rand(ROWS, size, size, 3, generator=rng)
        given = prompts("image", base.codecs["image"], list(pixels.double().numpy()))
        normal = (pixels.permute(0, 3, 1, 2) - 0.5) / 0.5
        view = View((Stream("main", "main", (given,)),))
        return (
            lambda: base.model(view).streams["main"].x,
            lambda: reference(normal).last_hidden_state,
        )
    ids = torch.randint(3, VOCABULARY, (ROWS, PLACES), generator=rng)
    given = Segment("text", ids, positions((PLACES,)).expand(ROWS, -1, -1))
    read = Read("text", "x")
    if "decoder" in base.config.towers:
        encoder = Stream("encoder", "encoder", (given,))
        decoder = Stream("main", "decoder", (given,), "causal", "encoder", (read,))
        view = View((encoder, decoder))
        other = lambda: reference(input_ids=ids, decoder_input_ids=ids).logits  # noqa: E731
    else:
        view = View((Stream("main", "main", (given,), base.pattern, reads=(read,)),))
        other = lambda: reference(ids, use_cache=False).logits  # noqa: E731
        if base.pattern == "full":
            other = lambda: reference(ids).logits  # noqa: E731
    return lambda: base.model(view).predictions["x"], other


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
