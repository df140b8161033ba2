"""Bases that left as GGUF, run by llama.cpp: does it compute, cut text and continue as we do?

python bench/llamacpp.py RUN TEXTS [--texts 200] [--steps 64]

RUN is the folder of a run or a model folder, TEXTS a folder of text files. Prints the largest
difference of logits over the texts' first places and greedy steps after them, of the largest logit;
at how many steps llama.cpp's likeliest id is not ours; how many texts it cuts into other ids, and
what that costs: bits a byte under our model of its ids and of ours, with the 95 % interval of the
difference. Building llama.cpp, the first time, takes a while; a build elsewhere is named by
LLAMA_CPP_LIB_PATH, as llama-cpp-python has it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from broadbase.core.view import Predict, Segment, Stream, View, positions
from broadbase.inference.base import Base
from broadbase.weights.folder import load
from broadbase.weights.gguf import write_gguf
from machine import BENCH, description, peers

SHOWN, LONGEST = 32, 400  # places before greedy steps; bytes of a text


def main() -> None:
    """One base."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--steps", type=int, default=64)
    options = parser.parse_args()
    run = options.run
    base = load(run / "model" if (run / "model").is_dir() else run)
    texts = read(options.folder, options.texts)
    codec: Any = base.codecs[next(iter(base.codecs))]
    ours = [codec.encode(text).values for text in texts]
    shown = [[int(codec.start), *ids[:SHOWN].tolist()] for ids in ours[:8]]
    result = requested(base, {"texts": texts, "ids": shown, "steps": options.steps})
    print(description())
    worst, other = 0.0, 0
    for i in range(len(shown)):
        full, reference = result[f"ids {i}"], result[f"logits {i}"]
        actual = logits(base, full).numpy()
        worst = max(worst, float(np.abs(actual - reference).max() / np.abs(actual).max()))
        other += int((actual.argmax(axis=1)[SHOWN:-1] != full[SHOWN + 1 :]).sum())
    drawn = len(shown) * options.steps
    print(f"logits differ by {worst:.1e}; of {drawn} greedy ids {other} are others")
    pairs = [(one, result[f"told {i}"]) for i, one in enumerate(ours)]
    same = sum(len(a) == len(b) and bool((a == b).all()) for a, b in pairs)
    print(f"{len(texts) - same} of {len(texts)} texts are cut into other ids")
    sizes = np.array([len(text.encode()) for text in texts])
    bits = np.array([[cost(base, codec, ids) for ids in pair] for pair in pairs]) / sizes[:, None]
    half = stats.t.ppf(0.975, len(bits) - 1) * stats.sem(bits[:, 1] - bits[:, 0])
    more = (bits[:, 1] - bits[:, 0]).mean()
    print(
        f"bits a byte: {bits[:, 0].mean():.3f} as we cut, {bits[:, 1].mean():.3f} as it does:"
        f" {more:+.4f} ({more - half:+.4f} to {more + half:+.4f})"
    )


def read(folder: Path, count: int) -> list[str]:
    """Pieces of its files, one of each."""
    result = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        text = file.read_text(errors="ignore")
        if len(text) > LONGEST:
            start = len(text) // 2
            result.append(text[start : start + LONGEST])
    return result[:: max(1, len(result) // count)][:count]


def requested(base: Base, given: dict[str, Any]) -> dict[str, Any]:
    """What llama.cpp says."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_gguf(base, folder / "base.gguf")
        (folder / "asked.json").write_text(json.dumps(given))
        command = [peers("llamacpp"), BENCH / "peers" / "llamacpp.py", folder / "base.gguf"]
        command += [folder / "asked.json", folder / "found.npz"]
        subprocess.run([str(part) for part in command], check=True)
        return dict(np.load(folder / "found.npz"))


@torch.no_grad()
def logits(base: Base, ids: Any) -> torch.Tensor:
    """Ours after each of some ids: [N,V]."""
    space = next(iter(base.codecs))
    given = Segment(space, torch.tensor(ids)[None], positions((len(ids),))[None])
    stream = Stream("main", "main", (given,), "causal", readouts=(Predict(space, "x"),))
    return base.model(View((stream,))).predictions["x"][0]


def cost(base: Base, codec: Any, ids: Any) -> float:
    """Bits that our model needs for ids after a start."""
    full = np.concatenate([[int(codec.start)], ids])
    surprise = -logits(base, full[:-1]).log_softmax(dim=-1)
    output = surprise.gather(1, torch.tensor(ids)[:, None])
    return float(output.sum()) / np.log(2)


if __name__ == "__main__":
    main()
