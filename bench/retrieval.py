"""Search in an index: recall beside bm25s and exact vectors, and what storing and a query cost.

    python bench/retrieval.py run [BASE] --out FILE [--tasks boolq abstracts python]
    python bench/retrieval.py report FILE
    python bench/retrieval.py speed [BASE]

Fixed before the first measurement:

- Three sets of questions with their document (retrieval_tasks.py). Documents are cut into passages
  as `broadbase index` does it. A question finds its document if one of the 10 best passages is of
  it: recall@10. Every second question is for validation, the others are the test.
- `words` is BM25 of the index, `vectors` the exact cosine in fp32 by numpy of the same embeddings,
  `hybrid` both with the weight of 0, 0.1, ... 1 that is best in validation (of equal ones that
  nearest to 0.5), `default` both with the weight of the code, and `bm25s` the peer.
- The default weight is the best on the mean validation recall over the three sets.
- Bar: hybrid is not below the better half (of words and vectors on the test) by more than 0.01,
  with the interval of the paired difference over the test questions.
- `speed`: 100,000 sentences of `sample:passages` (repeated with a number where there are fewer),
  each a passage with a random vector of the base's width, are written in the commits of
  `index`. CPU seconds of writing, and the milliseconds of 200 hybrid queries, with the embedding of
  the query, by the clock and of CPU, are printed. Bars: 5 seconds, 50 ms in the median.

`run` appends a line of JSON for each set.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from broadbase.adapt.inputs import content
from broadbase.adapt.reading import reader
from broadbase.core.sources import Record
from broadbase.data.detect import named
from broadbase.evidence.interval import paired_interval
from broadbase.index.passages import Passage
from broadbase.index.reading import LONGEST, facts_of, unit, unit_vectors
from broadbase.index.search import WEIGHT, Searcher, best, fused
from broadbase.index.store import Document, Store
from broadbase.index.vectors import matrix
from broadbase.index.writing import BATCH, Reading, update
from broadbase.inference.base import Base
from broadbase.weights.folder import load
from machine import BENCH, peers
from retrieval_tasks import SEEN, SETS, Questions, questions
from run_report import main

K, WEIGHTS = 10, [i / 10 for i in range(11)]
STORED, QUERIES = 100_000, 200


def how(base: Base, tokens: int = LONGEST) -> Reading:
    """How a base of text reads documents, as the command does."""
    modality, codec = base.codec()
    return Reading(
        reader(base, modality),
        lambda raws: unit_vectors(base, modality, raws),
        lambda text: len(codec.encode_content(text).values),
        tokens,
        content,
    )


def indexed(base: Base, documents: Sequence[str], path: Path, tokens: int = LONGEST) -> Searcher:
    """An index of documents, each called by its number."""
    store = Store.create(path, facts_of(base, "base", base.codec()[0]))
    records = [Record(text, str(i)) for i, text in enumerate(documents)]
    update(store, "bench", records, how(base, tokens))
    return Searcher.of(store)


def measured(base: Base, task: Questions) -> dict[str, Any]:
    """Whether each question finds its document, by arm and half."""
    with tempfile.TemporaryDirectory() as name:
        searcher = indexed(base, task.documents, Path(name) / "index")
        spans = searcher.store.spans(searcher.matrix.numbers.tolist())
        of = np.array([int(span.origin) for span in spans])
        vectors = unit_vectors(base, base.codec()[0], list(task.questions))
        rows = matrix(searcher.store).vectors.numpy()
        exact = vectors @ unit_vectors(base, base.codec()[0], [span.text for span in spans]).T
        lexical = [searcher.lexical(question) for question in task.questions]
        peer = by_peer([span.text for span in spans], task.questions)

    def recall(chosen: Callable[[int], Any]) -> list[float]:
        return [float(right in of[chosen(i)]) for i, right in enumerate(task.right)]

    def weighed(weight: float) -> list[float]:
        return recall(lambda i: best(fused(lexical[i], rows @ vectors[i], weight), K))

    arms = {
        "words": weighed(0.0),
        "vectors": recall(lambda i: np.argsort(-exact[i], kind="stable")[:K]),
        "bm25s": recall(lambda i: peer["best"][i]),
    }
    return {
        "task": task.name,
        "documents": len(task.documents),
        "passages": len(of),
        "arms": arms,
        "weights": {str(weight): weighed(weight) for weight in WEIGHTS},
        "peer seconds": peer["seconds"],
    }


def by_peer(passages: Sequence[str], queries: Sequence[str]) -> dict[str, Any]:
    """What bm25s retrieves."""
    with tempfile.TemporaryDirectory() as name:
        given = json.dumps({"passages": passages, "queries": queries})
        (Path(name) / "given.json").write_text(given)
        subprocess.run([peers("retrieval"), BENCH / "peers" / "retrieval.py", name], check=True)
        result: dict[str, Any] = json.loads((Path(name) / "result.json").read_text())
        return result


def rows(base: Base, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Measure each set."""
    for name in SETS:
        if wanted(name):
            yield measured(base, questions(name))


def report(file: Path) -> None:
    """Print recall@10 of every arm on the test, and the margin of the hybrid."""
    every = [json.loads(line) for line in file.read_text().splitlines()]
    arms = ("bm25s", "words", "vectors", "hybrid")
    print(f"| set | passages | questions | {' | '.join(arms)} | weight | margin | default |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|---|--:|")
    for row in every:
        tuned = {float(w): np.mean(x[::2]) for w, x in row["weights"].items()}
        weight = max(tuned, key=lambda w: (tuned[w], -abs(w - 0.5)))
        test = {name: x[1::2] for name, x in row["arms"].items()}
        test["hybrid"] = row["weights"][str(weight)][1::2]
        half = max(("words", "vectors"), key=lambda name: np.mean(test[name]))
        margin = paired_interval(test["hybrid"], test[half])
        scores = " | ".join(f"{np.mean(test[x]):.3f}" for x in arms)
        default = np.mean(row["weights"][str(WEIGHT)][1::2])
        star = "*" if row["task"] in SEEN else ""
        size = f"{row['passages']:,} | {len(test['hybrid']):,}"
        interval = f"{margin.mean:+.3f} ({margin.low:+.3f} {margin.high:+.3f})"
        print(
            f"| {row['task']}{star} | {size} | {scores} | {weight:g} | {interval} | {default:.3f} |"
        )
    means = {
        w: np.mean([np.mean(row["weights"][w][::2]) for row in every]) for w in every[0]["weights"]
    }
    print("\nmean validation recall by weight:", {w: round(float(x), 4) for w, x in means.items()})


def sentences() -> Iterator[str]:
    """Yield sentences of real passages; again, with a number, where there are no more."""
    source = named("sample:passages")
    assert source is not None
    texts = [item.raw for item in source.records() if isinstance(item, Record)]
    parts = [part for text in texts for part in text.split(". ") if len(part) > 40]
    for turn in itertools.count():
        yield from (f"{part} {turn}" if turn else part for part in parts)


def speed(base: Base) -> None:
    """Print what it costs to write 100,000 passages, and to search among them."""
    texts = [*itertools.islice(sentences(), STORED)]
    width = base.config.towers[base.tower(base.codec()[0])].width
    vectors = unit(np.random.default_rng(0).normal(size=(STORED, width)).astype(np.float32))
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "index", facts_of(base, "base", base.codec()[0]))
        began = time.process_time()
        for i in range(0, STORED, BATCH):
            some = [
                Document(str(j), "bench", str(j), [Passage(0, len(texts[j]), texts[j])])
                for j in range(i, min(STORED, i + BATCH))
            ]
            store.put(some, vectors[i : i + BATCH])
        store.tidy()
        written = time.process_time() - began
        size = store.path.stat().st_size / 1e6
        began = time.process_time()
        searcher = Searcher.of(store)
        copied = time.process_time() - began
        some_questions = questions("boolq").questions[:QUERIES]
        names = ("all", "CPU", "embedding", "words", "vectors")
        parts: dict[str, list[float]] = {name: [] for name in names}
        for question in some_questions:
            began, cpu = time.perf_counter(), time.process_time()
            (vector,) = unit_vectors(base, base.codec()[0], [question])
            embedded = time.perf_counter()
            searcher.search(question, vector)
            parts["all"].append(1000 * (time.perf_counter() - began))
            parts["CPU"].append(1000 * (time.process_time() - cpu))
            parts["embedding"].append(1000 * (embedded - began))
            began = time.perf_counter()
            searcher.lexical(question)
            parts["words"].append(1000 * (time.perf_counter() - began))
            began = time.perf_counter()
            searcher.cosines(vector)
            parts["vectors"].append(1000 * (time.perf_counter() - began))
        began = time.process_time()
        store.remove([str(i) for i in range(1000)])
        removed = time.process_time() - began
        store.tidy()
        tidied = time.process_time() - began - removed
    medians = {name: round(statistics.median(values), 1) for name, values in parts.items()}
    print(
        f"writing {STORED:,} passages: {written:.2f} CPU s, {size:.0f} MB; copy {copied:.2f} CPU s"
    )
    print(
        f"milliseconds of a query, median: {medians}; 95 %: {np.quantile(parts['all'], 0.95):.1f}"
    )
    print(f"removing 1,000: {removed:.2f} CPU s; overwriting their words: {tidied:.2f} CPU s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["speed"]:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("base", nargs="?", default="sample:minilm")
        speed(load(parser.parse_args(sys.argv[2:]).base))
    else:
        main(__doc__, rows, report)
