"""What retrieval buys a small language model, in bits.

    broadbase pretrain text --data sample:passages --depth 2 --steps 400 --context 256
      --batch-size 16 --out runs/passages
    python bench/retrieval_lm.py neighbours runs/passages --out FILE
    python bench/retrieval_lm.py answers runs/passages --out FILE
    python bench/retrieval_lm.py report FILE

Fixed before the first measurement:

- `neighbours` (a nearest-neighbour language model, Khandelwal et al. 2020): three domains
  (retrieval_tasks.py) that the base was not trained on. Of each 40 texts are the test, 10 the
  validation, and others, up to 60,000 tokens, the datastore. Of a text the first 1,500 characters
  are scored. Weight, temperature (times the median distance of validation) and number of neighbours
  are those of the fewest bits in validation. The control is a datastore of the next domain, as many
  tokens, with the same settings. Bits a byte of each text; a gain is the paired difference over the
  test texts with its 95 % t-interval.
- `answers`: 100 plots of NarrativeQA with a question and an answer each. The plots are indexed with
  MiniLM, passages of at most 96 of its tokens. The base reads "PASSAGE / Question: ... / Answer:",
  and the bits of the answer are counted: with the best passage of the right plot for the question
  (by hybrid search), the best of all plots (what search gives), a random one of another plot, and
  none.
- Nothing is tuned on the test.

`neighbours` and `answers` append a line of JSON for each domain, or for all answers.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from broadbase.evidence.interval import paired_interval
from broadbase.index.knn_lm import Predicted, interpolated, nearest, predicted
from broadbase.index.reading import unit_vectors
from broadbase.inference.base import Base
from broadbase.inference.likelihood import prompt_ids, token_states
from broadbase.weights.folder import load
from retrieval import indexed
from retrieval_tasks import DOMAINS, domain, story_questions

TEST, VALIDATION, CHARACTERS, TOKENS = 40, 10, 1500, 60_000
WEIGHTS, TEMPERATURES, COUNTS = (
    (0.05, 0.1, 0.2, 0.3, 0.4, 0.5),
    (0.01, 0.03, 0.1, 0.3, 1.0),
    (16, 256),
)
STORIES = 100


def datastore(base: Base, texts: Sequence[str]) -> Predicted:
    """The first tokens of some texts."""
    rows, count = list[Predicted](), 0
    for text in texts:
        rows.append(predicted(base, [text]))
        if (count := count + len(rows[-1].tokens)) >= TOKENS:
            break
    return cut(Predicted(*map(torch.cat, zip(*rows, strict=True))), TOKENS)


def cut(store: Predicted, tokens: int) -> Predicted:
    """As many tokens of a datastore."""
    return Predicted(*(column[:tokens] for column in store))


def by_neighbours(base: Base) -> Iterator[dict[str, Any]]:
    """Bits a byte of the test texts of each domain, by arm."""
    texts = {name: domain(name) for name in DOMAINS}
    stores = {n: datastore(base, each[TEST + VALIDATION :]) for n, each in texts.items()}
    for name, wrong in zip(DOMAINS, [*DOMAINS][1:] + [*DOMAINS][:1], strict=True):
        size = min(len(stores[name].tokens), len(stores[wrong].tokens))
        own, other = cut(stores[name], size), cut(stores[wrong], size)
        test, held = (
            [text[:CHARACTERS] for text in part]
            for part in (texts[name][:TEST], texts[name][TEST:][:VALIDATION])
        )
        settings = chosen(base, held, own)
        bits: dict[str, list[float]] = {"alone": [], "own": [], "wrong": []}
        for text in test:
            read, size_of = predicted(base, [text]), len(text.encode()) * math.log(2)
            bits["alone"].append(float(-read.logprobs.double().sum()) / size_of)
            for arm, store in (("own", own), ("wrong", other)):
                near = nearest(store, read.keys, settings["k"])
                total = interpolated(read, near, settings["weight"], settings["temperature"]).sum()
                bits[arm].append(float(-total) / size_of)
        yield {"task": name, "wrong": wrong, "tokens": size, "settings": settings, "bits": bits}


def chosen(base: Base, texts: Sequence[str], store: Predicted) -> dict[str, Any]:
    """The settings of the fewest bits on some texts."""
    read, results = predicted(base, texts), {}
    for k in COUNTS:
        near = nearest(store, read.keys, k)
        scale = float(near.distances.median())
        for share in TEMPERATURES:
            for weight in WEIGHTS:
                bits = -float(interpolated(read, near, weight, share * scale).sum())
                results[k, weight, share * scale] = bits
    k, weight, temperature = min(results, key=results.__getitem__)
    return {"k": k, "weight": weight, "temperature": temperature}


def by_answers(base: Base) -> Iterator[dict[str, Any]]:
    """Bits of each gold answer, by what is read before it."""
    rows, encoder = story_questions(STORIES), load("sample:minilm")
    bits: dict[str, list[float]] = {name: [] for name in ("none", "right", "retrieved", "wrong")}
    hits_right = list[bool]()
    with tempfile.TemporaryDirectory() as name:
        searcher = indexed(encoder, [story for story, _, _ in rows], Path(name) / "index", 96)
        count = len(searcher.matrix.numbers)
        vectors = unit_vectors(encoder, encoder.codec()[0], [question for _, question, _ in rows])
        rng = np.random.default_rng(0)
        for i, (_, question, answer) in enumerate(rows):
            hits = searcher.search(question, vectors[i], count)
            own = next(hit for hit in hits if hit.origin == str(i))
            others = [hit for hit in hits if hit.origin != str(i)]
            hits_right.append(hits[0].origin == str(i))
            passages = {"none": "", "right": own.text, "retrieved": hits[0].text}
            passages["wrong"] = others[int(rng.integers(len(others)))].text
            for arm, passage in passages.items():
                bits[arm].append(answer_bits(base, passage, question, answer))
    yield {"task": "answers", "bits": bits, "search": float(np.mean(hits_right))}


def answer_bits(base: Base, passage: str, question: str, answer: str) -> float:
    """The bits of an answer after a passage and a question."""
    before = f"{passage}\n\n" if passage else ""
    ids = prompt_ids(base, f"{before}Question: {question}\nAnswer:")
    tokens = prompt_ids(base, f" {answer}")[len(prompt_ids(base, "")) :]
    logprobs = token_states(base, [*ids, *tokens])[1][-len(tokens) :]
    return float(-logprobs.gather(1, torch.tensor(tokens)[:, None]).sum()) / math.log(2)


def report(file: Path) -> None:
    """Print each arm with its paired difference from the first."""
    for row in map(json.loads, file.read_text().splitlines()):
        first, *others = row["bits"]
        unit = "bits an answer" if row["task"] == "answers" else "bits a byte"
        print(f"\n{row['task']} ({len(row['bits'][first])} texts, {unit}):", end=" ")
        print(row.get("settings", ""), row.get("wrong", ""), row.get("search", ""))
        print(f"  {first} {np.mean(row['bits'][first]):.3f}")
        for arm in others:
            gain = paired_interval(row["bits"][arm], row["bits"][first])
            mean = np.mean(row["bits"][arm])
            print(f"  {arm} {mean:.3f}: {gain.mean:+.3f} ({gain.low:+.3f} {gain.high:+.3f})")
        if "right" in others:
            gain = paired_interval(row["bits"]["right"], row["bits"]["wrong"])
            print(f"  right - wrong: {gain.mean:+.3f} ({gain.low:+.3f} {gain.high:+.3f})")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("neighbours", "answers"):
        running = commands.add_parser(name)
        running.add_argument("base")
        running.add_argument("--out", type=Path, required=True)
    commands.add_parser("report").add_argument("file", type=Path)
    options = parser.parse_args()
    if options.command == "report":
        report(options.file)
        return
    measure = by_neighbours if options.command == "neighbours" else by_answers
    for row in measure(load(options.base)):
        with options.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row["task"], "done", flush=True)


if __name__ == "__main__":
    main()
