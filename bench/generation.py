"""Generation beside transformers' `generate`: greedy, the same weights, the same tokens.

    python bench/generation.py [CASE ...] [--rounds 5] [--threads 2]

Llamas of two sizes with random weights, saved by transformers and loaded here; both continue the
same 16 tokens in one process, in turns (A B A B). In fp32 the tokens must be equal. What 8 bits
cost is told by `python bench/eight_bit.py`, on a base that was trained.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers as hf
from torch import Tensor

from broadbase.core.view import Segment, positions
from broadbase.inference.autoregressive import SamplingConfig, generate
from broadbase.weights.folder import load
from machine import Row, description, tell

GIVEN = 16


@dataclass(frozen=True)
class Case:
    """A Llama with tied embeddings, how many rows it continues by how many tokens, and the bar."""

    width: int
    layers: int
    hidden: int
    vocabulary: int
    rows: int
    tokens: int
    bar: float
    eight_bit: bool = False


SMALL, LARGE = (384, 6, 1024, 8192), (768, 12, 2048, 32000)  # 13.8M and 110M parameters
CASES = {
    "13M": Case(*SMALL, rows=1, tokens=64, bar=2.0),
    "110M": Case(*LARGE, rows=1, tokens=32, bar=1.35),
    "110M-16": Case(*LARGE, rows=16, tokens=32, bar=1.4),
    "110M-int8": Case(*LARGE, rows=1, tokens=32, bar=3.0, eight_bit=True),
}


def compared(name: str, case: Case, rounds: int) -> Row:
    """Tokens a second, by turns; the first round warms up."""
    ours, expected = both(case)
    speeds: dict[str, list[float]] = {"ours": [], "theirs": []}
    cpu: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds + 1):
        output = {}
        for side, run in (("ours", ours), ("theirs", expected)):
            began, spent = time.perf_counter(), time.process_time()
            output[side] = run()
            speeds[side].append(case.rows * case.tokens / (time.perf_counter() - began))
            cpu[side].append(time.process_time() - spent)
        same = float((output["ours"] == output["theirs"]).float().mean())
        assert case.eight_bit or same == 1, f"{name}: only {same:.0%} of the tokens are equal"
    less = sorted(b / a for a, b in zip(cpu["ours"][1:], cpu["theirs"][1:], strict=True))
    more = f"{same:.0%} of the tokens equal; CPU time {less[0]:.2f} to {less[-1]:.2f} times less"
    numbers = "8-bit weights" if case.eight_bit else "fp32"
    work = f"generation, {name.split('-')[0]}, batch {case.rows}, {numbers}"
    return Row(work, speeds["ours"][1:], speeds["theirs"][1:], "tokens/s", HF, case.bar, more=more)


HF = "transformers' generate, fp32"


def both(case: Case) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Ours and theirs: [rows, tokens]."""
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=case.vocabulary,
        hidden_size=case.width,
        intermediate_size=case.hidden,
        num_hidden_layers=case.layers,
        num_attention_heads=case.width // 64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=None,
        pad_token_id=0,
    )
    reference = hf.LlamaForCausalLM(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        base = load(Path(folder))
    base = base.eight_bit() if case.eight_bit else base
    ids = torch.randint(3, case.vocabulary, (case.rows, GIVEN))
    place = positions((GIVEN + case.tokens,))
    given = Segment("text", ids, place[:GIVEN].expand(case.rows, -1, -1))
    greedy = SamplingConfig(temperature=0).build()

    def ours() -> Tensor:
        return torch.cat([*generate(base.model, given, place[GIVEN:], greedy)], dim=1)

    def expected() -> Tensor:
        seen = torch.ones_like(ids)
        result: Tensor = reference.generate(
            ids, attention_mask=seen, max_new_tokens=case.tokens, do_sample=False
        )
        return result[:, GIVEN:]

    return ours, expected


def main() -> None:
    """A line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=[], choices=[*CASES, []])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(description(), f"{options.threads} threads, torch {torch.__version__}", sep=", ")

    def rows() -> Iterator[Row]:
        for name in options.cases or CASES:
            yield compared(name, CASES[name], options.rounds)

    tell(rows())


if __name__ == "__main__":
    main()
