"""Published families here and in transformers: forward and backward, same weights, same run.

python bench/families.py [FAMILY ...] [--rounds 7] [--threads 2] [--clock wall]

Each reference is built at the size below with random weights, saved, and loaded here; both compute
the same batch in one process, in turns (A B A B). Prints medians, and the ratio theirs / ours of
each round with its 95 % interval: above 1 is faster here. `--clock cpu` counts the processor's time
of all threads, for a machine that others use too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from torch import Tensor

from broadbase.core.view import Predict, Segment, Stream, View, positions
from broadbase.inference.base import Base
from broadbase.inference.documents import prompts
from broadbase.weights.folder import load
from machine import description, ratio

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
ROWS, POSITIONS, VOCABULARY = 8, 256, 8192
WIDTH = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6}
HEADS = {"num_attention_heads": 6}
TEXT = {**WIDTH, **HEADS, "vocab_size": VOCABULARY, "max_position_embeddings": 512}
PICTURE = {**WIDTH, **HEADS, "image_size": 128, "patch_size": 8}
T5 = {"d_model": 384, "d_ff": 1024, "num_layers": 4, "num_heads": 6, "d_kv": 64}
GROUPED = {**TEXT, "num_key_value_heads": 2, "head_dim": 64}
GEMMA = {**GROUPED, "query_pre_attn_scalar": 64, "sliding_window": 128}
SIDES = {
    "d_model": 384,
    "vocab_size": VOCABULARY,
    **{
        f"{side}_{what}": n
        for side in ("encoder", "decoder")
        for what, n in (("layers", 4), ("attention_heads", 6), ("ffn_dim", 1024))
    },
}
ENDS = {"bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, num_key_value_heads=6)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GEMMA)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**GEMMA)),
    "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**GROUPED, **EXPERTS)),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=VOCABULARY, n_embd=384, n_layer=6, n_head=6, n_positions=512)
    ),
    "bert": lambda: hf.BertForMaskedLM(hf.BertConfig(**TEXT)),
    "esm": lambda: hf.EsmForMaskedLM(
        hf.EsmConfig(**TEXT, pad_token_id=1, mask_token_id=2, position_embedding_type="rotary")
    ),
    "modernbert": lambda: hf.ModernBertForMaskedLM(
        hf.ModernBertConfig(**TEXT, pad_token_id=0, cls_token_id=1, sep_token_id=2)
    ),
    "vit": lambda: hf.ViTModel(hf.ViTConfig(**PICTURE), add_pooling_layer=False),
    "t5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(**T5, vocab_size=VOCABULARY, decoder_start_token_id=0, dropout_rate=0.0)
    ),
    "bart": lambda: hf.BartForConditionalGeneration(hf.BartConfig(**SIDES)),
    "whisper": lambda: hf.WhisperForConditionalGeneration(
        hf.WhisperConfig(**SIDES, max_source_positions=POSITIONS, pad_token_id=0)
    ),
    "clip": lambda: hf.CLIPModel(
        hf.CLIPConfig(text_config={**TEXT, **ENDS}, vision_config=PICTURE, projection_dim=384)
    ),
}


def main() -> None:
    """A line for each family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(description(), f"{options.threads} threads, torch {torch.__version__}", sep=", ")
    size = f"{ROWS} rows of {POSITIONS} tokens, {options.clock} clock"
    print(f"transformers {hf.__version__}, fp32; {size}")
    print("family      ms here  ms there  there / here, forward and backward (95 %)")
    for name in options.families:
        print(line(name, options.rounds, CLOCKS[options.clock]), flush=True)


def line(name: str, rounds: int, clock: Callable[[], float]) -> str:
    """One family: the same loss by both, then timed in turns."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        reference = FAMILIES[name]().eval()
        reference.save_pretrained(folder)
        base = load(Path(folder))
    actual, expected = both(base, reference)
    with torch.no_grad():
        a, b = actual(), expected()
    assert torch.allclose(a, b, atol=1e-3), f"{name}: {(a - b).abs().max()} apart"
    seconds: dict[str, list[float]] = {"mine": [], "theirs": []}
    for _ in range(rounds + 1):
        for key, forward in (("mine", actual), ("theirs", expected)):
            began = clock()
            forward().square().mean().backward()
            seconds[key].append(clock() - began)
    ours, other = (np.array(seconds[key][1:]) for key in ("mine", "theirs"))  # the first warms up
    low, middle, high = ratio(other, ours)
    times = f"{1000 * np.median(ours):8.0f}  {1000 * np.median(other):8.0f}"
    return f"{name:10}  {times}  {middle:.2f} ({low:.2f} to {high:.2f})"


def both(base: Base, reference: Any) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Ours and theirs: the same batch to the same numbers."""
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(3, VOCABULARY - 2, (ROWS, POSITIONS), generator=rng)
    text = Segment("text", ids, positions((POSITIONS,)).expand(ROWS, -1, -1))
    read = Predict("text", "x")
    if "image" in base.config.modalities:
        given, pixels = pictures(base, rng)
        seen = Stream("seen", base.tower("image"), (given,))
        if "text" in base.config.modalities:
            return met(base, reference, seen, text, pixels)
        view = View((seen,))
        return (
            lambda: base.model(view).streams["seen"].x,
            lambda: reference(pixels).last_hidden_state,
        )
    if "decoder" not in base.config.towers:
        taken = {"input_ids": ids} | (
            {} if base.usage.attention == "full" else {"use_cache": False}
        )
        streams: tuple[Stream, ...] = (
            Stream("main", "main", (text,), base.usage.attention, readouts=(read,)),
        )
    else:
        given, taken = text, {"input_ids": ids}
        if "audio" in base.config.modalities:
            features = torch.randn(ROWS, 80, 2 * POSITIONS, generator=rng)
            values = features.transpose(1, 2).reshape(ROWS, POSITIONS, -1)
            given, taken = Segment("audio", values, text.position), {"input_features": features}
        taken |= {"decoder_input_ids": ids, "use_cache": False}
        output = Stream("main", "decoder", (text,), "causal", "encoder", (read,))
        streams = (Stream("encoder", "encoder", (given,)), output)
    view = View(streams)
    return lambda: base.model(view).predictions["x"], lambda: reference(**taken).logits


def pictures(base: Base, rng: torch.Generator) -> tuple[Segment, Tensor]:
    """Noise as our codec gives it, and as references take it."""
    size, config = PICTURE["image_size"], base.config.modalities["image"]
    pixels = torch.rand(ROWS, size, size, 3, generator=rng).double()
    deviation, mean = (torch.tensor(getattr(config, name)) for name in ("deviation", "mean"))
    raws = list((pixels * deviation + mean).numpy())
    given = prompts("image", base.codecs["image"], raws)
    return given, pixels.permute(0, 3, 1, 2).float()


def met(
    base: Base, reference: Any, seen: Stream, text: Segment, pixels: Tensor
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Pictures and texts: the logits of all pairs."""
    assert text.values is not None
    end = base.codecs["text"].end
    assert end is not None
    text.values[:, -1] = int(end)  # where a text is read
    start = torch.zeros(ROWS, 1, dtype=torch.int64)
    ends = (
        Predict("image_joint", "seen", index=start),
        Predict("text_joint", "told", index=start + POSITIONS - 1),
    )
    output = Stream(
        "told", base.tower("text"), (text,), base.attention_pattern("text"), readouts=ends[1:]
    )
    view = View((replace(seen, readouts=ends[:1]), output))

    def logits() -> Tensor:
        result = base.model(view).predictions
        return result["seen"][:, 0] @ result["told"][:, 0].T

    taken = {"input_ids": text.values, "pixel_values": pixels}
    return logits, lambda: reference(**taken).logits_per_image


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
