"""A training step of masked text, masked pictures and pairs, here and by transformers' classes.

python bench/objectives.py [TASK ...] [--rounds 7] [--threads 2]

Each reference is built at the size below with random weights, saved, and loaded here; both learn
the same batch in one process, in turns (A B A B): forward, backward, a clipped gradient and fused
AdamW, in fp32. The losses of the first step must agree.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers as hf
from torch import Tensor, nn

from broadbase.core.view import (
    MaskedSegment,
    Predict,
    Score,
    Segment,
    Stream,
    StreamSegment,
    View,
    positions,
)
from broadbase.inference.base import Base
from broadbase.inference.documents import prompts
from broadbase.objectives.masks import gather
from broadbase.train.machine import MachineConfig
from broadbase.train.optim import AdamWConfig
from broadbase.train.ranks import clip
from broadbase.train.speeds import use_onednn
from broadbase.weights.folder import load
from machine import Row, description, ratio, tell

Loss = Callable[[], Tensor]
ROWS, POSITIONS, CAPTION, HIDDEN = 16, 128, 32, 0.15
BERT = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "vocab_size": 30522}
PICTURE = {"image_size": 64, "hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
DECODER = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
TEXT = {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3}


def masked(rng: torch.Generator) -> tuple[Any, Callable[[Base, Any], tuple[Loss, Loss]]]:
    """BERT, 15 % of the places hidden: ours has logits of these alone."""
    plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = hf.BertConfig(**BERT, intermediate_size=1536, **plain)
    ids = torch.randint(1000, BERT["vocab_size"], (ROWS, POSITIONS), generator=rng)
    order = torch.rand(ROWS, POSITIONS, generator=rng).argsort(dim=1)
    index = order[:, : round(HIDDEN * POSITIONS)]
    labels = torch.full_like(ids, -100).scatter(1, index, ids.gather(1, index))
    given = ids.masked_fill(labels >= 0, 103)

    def both(base: Base, reference: Any) -> tuple[Loss, Loss]:
        place = positions((POSITIONS,)).expand(ROWS, -1, -1)
        read = Score("text", "x", ids.gather(1, index), torch.ones(index.shape), index)
        view = View((Stream("main", "main", (Segment("text", given, place),), readouts=(read,)),))
        return (
            lambda: base.model(view).scores["x"].mean(),
            lambda: reference(input_ids=given, labels=labels).loss,
        )

    return hf.BertForMaskedLM(config), both


def mae(rng: torch.Generator) -> tuple[Any, Callable[[Base, Any], tuple[Loss, Loss]]]:
    """A masked autoencoder of pictures: 75 % of 256 patches hidden."""
    decoder = {f"decoder_{name}": value for name, value in DECODER.items()}
    shape = {**PICTURE, "num_hidden_layers": 12, "patch_size": 4, "decoder_intermediate_size": 512}
    config = hf.ViTMAEConfig(**shape, **decoder, mask_ratio=0.75)
    pixels = torch.rand(ROWS, 64, 64, 3, generator=rng)
    noise = torch.rand(ROWS, 256, generator=rng)

    def both(base: Base, reference: Any) -> tuple[Loss, Loss]:
        full = prompts("image", base.codecs["image"], list(pixels.double().numpy()))
        assert full.values is not None
        order = 1 + noise.argsort(dim=1)
        seen = torch.cat([torch.zeros(ROWS, 1, dtype=torch.int64), order[:, :64]], dim=1)
        hidden, values, place = order[:, 64:], full.values, full.position
        first = Segment("image", gather(values, seen), gather(place, seen))
        output = MaskedSegment("pixels", gather(place, hidden))
        index = seen.shape[1] + torch.arange(hidden.shape[1]).expand(ROWS, -1)
        read = Score("pixels", "x", gather(values, hidden), torch.ones(index.shape), index)
        inner = (StreamSegment("encoder", first.position), output)
        encoder = Stream("encoder", "encoder", (first,))
        view = View((encoder, Stream("decoder", "decoder", inner, readouts=(read,))))
        normed = normal(pixels, base)
        return (
            lambda: base.model(view).scores["x"].mean(),
            lambda: reference(normed, noise=noise).loss,
        )

    return hf.ViTMAEForPreTraining(config), both


def pairs(rng: torch.Generator) -> tuple[Any, Callable[[Base, Any], tuple[Loss, Loss]]]:
    """CLIP: twelve layers for pictures of 64 patches, six for texts of 32 places."""
    vision = {**PICTURE, "num_hidden_layers": 12, "patch_size": 8}
    text = {**TEXT, "intermediate_size": 768, "vocab_size": 8192, "max_position_embeddings": 64}
    ends = {"bos_token_id": 8190, "eos_token_id": 8191}
    config = hf.CLIPConfig(text_config={**text, **ends}, vision_config=vision, projection_dim=128)
    pixels = torch.rand(ROWS, 64, 64, 3, generator=rng)
    ids = torch.randint(1, 8190, (ROWS, CAPTION), generator=rng)
    ids[:, -1] = ends["eos_token_id"]

    def both(base: Base, reference: Any) -> tuple[Loss, Loss]:
        picture = prompts("image", base.codecs["image"], list(pixels.double().numpy()))
        written = Segment("text", ids, positions((CAPTION,)).expand(ROWS, -1, -1))
        reads = [Predict(f"{side}_joint", side, pooled=True) for side in ("image", "text")]
        sides = (("image", picture, reads[0]), ("text", written, reads[1]))
        view = View(
            tuple(Stream(tower, tower, (given,), readouts=(read,)) for tower, given, read in sides)
        )

        def ours() -> Tensor:
            output = base.model(view).predictions
            logits, own = output["image"][:, 0] @ output["text"][:, 0].T, torch.arange(ROWS)
            return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

        normed = normal(pixels, base)
        return ours, lambda: reference(ids, normed, return_loss=True).loss

    return hf.CLIPModel(config), both


TASKS = {"masked": masked, "mae": mae, "pairs": pairs}


def normal(pixels: Tensor, base: Base) -> Tensor:
    """Pictures [B,R,C,3] as the published processor normalises them: [B,3,R,C]."""
    recorded: Any = base.config.modalities["image"]
    mean, deviation = (torch.tensor(x) for x in (recorded.mean, recorded.deviation))
    return ((pixels - mean) / deviation).permute(0, 3, 1, 2).float()


def main() -> None:
    """A line for each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = MachineConfig(device="cpu", precision="fp32", compile="off").resolve()
    machine.prepare()
    print(description(), f"{options.threads} threads, torch {torch.__version__}", sep=", ")
    print(f"transformers {hf.__version__}, fp32; matmul here {machine.matmul}")

    def rows() -> Iterator[Row]:
        for name in options.tasks:
            yield compared(name, options.rounds, machine.matmul == "onednn")

    tell(rows())


def compared(name: str, rounds: int, onednn: bool) -> Row:
    """One task: the same loss by both, then timed in turns."""
    torch.manual_seed(0)
    reference, both = TASKS[name](torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        reference.train().save_pretrained(folder)
        base = load(Path(folder))
    actual, expected = both(base, reference)
    with torch.no_grad():
        a, b = float(actual()), float(expected())
    assert abs(a - b) < 1e-3 * abs(b), f"{name}: the losses are {a} and {b}"
    optim = AdamWConfig(lr=1e-4).build(base.model)
    peer = torch.optim.AdamW(reference.parameters(), lr=1e-4, fused=True)

    def ours_step() -> None:
        use_onednn(onednn)
        actual().backward()
        clip(base.model, 1.0)
        optim.step(1.0)

    def their_step() -> None:
        use_onednn(False)
        expected().backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        peer.step()
        peer.zero_grad(set_to_none=True)

    times: list[list[tuple[float, float]]] = [[], []]
    for _ in range(rounds + 1):
        for side, step in zip(times, (ours_step, their_step), strict=True):
            began, cpu = time.perf_counter(), time.process_time()
            step()
            side.append((time.perf_counter() - began, time.process_time() - cpu))
    ours, other = (np.array(side[1:]) for side in times)  # the first warms up
    spans = [ratio(other[:, i], ours[:, i]) for i in (0, 1)]
    wall, by_cpu = (f"{middle:.2f} ({low:.2f} to {high:.2f})" for low, middle, high in spans)
    more = f"95 % interval {wall}, by CPU time {by_cpu}."
    speed, their_speed = ((ROWS / side[:, 0]).tolist() for side in (ours, other))
    kind = type(reference).__name__
    return Row(f"{name} step", speed, their_speed, "rows/s", kind, 1.0, more=more)


if __name__ == "__main__":
    main()
