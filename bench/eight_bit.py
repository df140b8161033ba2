"""What 8-bit weights cost a base that was trained: perplexity on held-out code, beside fp32.

    python bench/eight_bit.py [RUN] [--steps 1000] [--documents 50]

Without a run one of the recipe `code` is trained on the standard library of the running Python. A
token's perplexity is that of whole documents of the validation side, cut to 512 places; a round of
the row is a tenth of them.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from broadbase.core.view import Score, Segment, Stream, View, positions
from broadbase.inference.base import Base
from broadbase.run.run import Run
from broadbase.weights.folder import load
from machine import Row, description, tell

LENGTH, TENTHS = 512, 10


@torch.inference_mode()
def nats(base: Base, space: str, values: np.ndarray) -> float:
    """The mean negative log-likelihood of a document's places after its start."""
    ids = torch.from_numpy(values).unsqueeze(0)
    given = Segment(space, ids[:, :-1], positions((len(values) - 1,)).unsqueeze(0))
    read = Score(space, "next", ids[:, 1:], torch.ones(1, len(values) - 1))
    stream = Stream("main", base.tower(space), (given,), "causal", readouts=(read,))
    return float(base.model(View((stream,))).scores["next"].mean())


def trained(folder: Path, steps: int) -> Path:
    """A run of the recipe `code`."""
    command = [
        sys.executable,
        "-m",
        "broadbase.commands.main",
        "pretrain",
        "code",
        "--data",
        "sample:python",
    ]
    command += ["--out", str(folder / "run"), "--set", f"train.steps={steps}"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return folder / "run"


def main() -> None:
    """One row: perplexity in 8 bits over that in fp32."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--documents", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.run or trained(Path(name), options.steps)
        run, base = Run.open(folder), load(folder / "model")
        source, mixed = next(iter(run.config.data.sources.items()))
        held = run.stores[source].split("validation")
        documents = [held.document(i)[:LENGTH] for i in range(min(len(held), options.documents))]
    small = base.eight_bit()
    sides = [[nats(b, mixed.modality, d) for d in documents] for b in (small, base)]
    ours, reference = ([math.exp(part.mean()) for part in np.array_split(s, TENTHS)] for s in sides)
    size = sum(p.numel() for p in base.model.parameters())
    print(description(), f"{size / 1e6:.1f}M parameters, {len(documents)} documents", sep=", ")
    full = math.exp(np.mean(sides[0]) - np.mean(sides[1]))
    work, more = "perplexity with 8-bit weights", f"All together: {full:.5f} times."
    tell([Row(work, ours, reference, "", "fp32", 1.01, higher=False, more=more)])


if __name__ == "__main__":
    main()
