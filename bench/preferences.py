"""Preferences: the losses beside trl's, and e-mails of 2002 of which people called some spam.

python bench/preferences.py --parity             one batch, trl 1.16 in an environment of its own
python bench/preferences.py --spam [--folder runs/preferences]

Spam (fixed before the first measurement). Answers are the first 30 words of the e-mails of
`sample:spam`; the prompt is "Write an e-mail." Of each label 1,200 e-mails are taken by seed 0: 800
to learn from, 100 for held-out pairs, 300 for the judge alone. A chat base of depth 2 (vocabulary
1,024, rows of 64 tokens) learns 1,600 answers of both labels in 400 steps. Then, from it,

- `reward`, 200 steps of 16 pairs, ham over spam: pair accuracy on the 100 held-out pairs, beside a
  logistic regression on TF-IDF of the words of the same 1,600 answers;
- `preference` (DPO, beta 0.1), 150 steps of 16 pairs: 150 answers are drawn by the model before and
  after at temperature 1, from the same seeds. The judge is a logistic regression on TF-IDF of
  characters of its own 600 e-mails, which no model has read; the share is that of pairs of drawings
  in which it finds the later one likelier ham (goal 0.8). Bits per byte of the held-out ham answers
  before and after (goal: at most 5 % worse). A preference that is one word does not count: the
  share is given again without the one word of all drawings whose removal lowers it most;
- best of 4 drawings by the reward model, against the first of the 4, by the same judge.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from broadbase.core.config import discover
from broadbase.core.contracts import Batch
from broadbase.core.loss import combine
from broadbase.core.sources import Record
from broadbase.core.view import Segment
from broadbase.data.samples.sets import SAMPLES
from broadbase.evidence.interval import Interval, paired_interval
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.inference.rewards import messages_of, rewards
from broadbase.objectives.causal import CausalConfig
from broadbase.objectives.preference import PreferenceConfig, PreferenceLossConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load
from machine import BENCH, description, measured, peers

PROMPT, WORDS = "Write an e-mail.", 30
EACH, LEARNED, HELD = 1200, 800, 100  # e-mails of a label, those learned from, those of pairs
DRAWN, BEST, NEW = 150, 4, 40  # drawings, drawings of a prompt for best of n, their tokens
CHAT = ("--depth", "2", "--steps", "400", "--context", "64", "--batch-size", "32")
REWARD = ("--depth", "2", "--steps", "200", "--context", "64", "--batch-size", "32")
PREFER = ("--depth", "2", "--steps", "150", "--context", "64", "--batch-size", "32")
SHARED = ("--set", "data.rejects=0.2", "--set", "data.final_rows=64", "--set", "train.samples=0")
PARITY_STEPS = 5
TOY = ("red", "green", "blue", "bird", "cat", "sings", "sleeps", "in", "a", "tree", "on", "hill")


def broadbase(*words: object) -> None:
    """Run a command of ours."""
    command = [sys.executable, "-m", "broadbase", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def trained(out: Path, recipe: str, data: Path, *words: object) -> Path:
    """Return a run, trained if it is not there."""
    if not (out / "model").exists():
        broadbase("pretrain", recipe, "--data", data, "--out", out, *SHARED, *words)
    return out


def json_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def mails() -> dict[str, list[str]]:
    """Return the beginnings of e-mails by label, in a random order."""
    texts: dict[str, list[str]] = {"ham": [], "spam": []}
    for record in SAMPLES["spam"].source.records():
        if isinstance(record, Record) and record.label in texts:
            words = record.raw.split()[:WORDS]
            if len(words) == WORDS and "<|" not in record.raw:
                texts[record.label].append(" ".join(words))
    rng = np.random.default_rng(0)
    unique = {label: list(dict.fromkeys(some)) for label, some in texts.items()}
    return {k: [some[i] for i in rng.permutation(len(some))[:EACH]] for k, some in unique.items()}


def judge_of(ham: Sequence[str], spam: Sequence[str], analyzer: str) -> Any:
    """Return a classifier of ham (1) and spam (0)."""
    span = (1, 4) if analyzer == "char_wb" else (1, 2)
    features = TfidfVectorizer(analyzer=analyzer, ngram_range=span, sublinear_tf=True)
    made = make_pipeline(features, LogisticRegression(C=10, max_iter=1000))
    return made.fit([*ham, *spam], [1] * len(ham) + [0] * len(spam))


def share(scores: Sequence[float], others: Sequence[float]) -> Interval:
    """Return how often a score is above the other, a tie counting half, with its interval."""
    won = [(a > b) + 0.5 * (a == b) for a, b in zip(scores, others, strict=True)]
    return paired_interval(won, [0.0] * len(won))


def written(gap: Interval) -> str:
    return f"{gap.mean:.3f} (95 % {gap.low:.3f} to {gap.high:.3f})"


def without(texts: Sequence[str], word: str) -> list[str]:
    return [" ".join(w for w in text.split() if w.lower() != word) for text in texts]


def weakest(judge: Any, after: Sequence[str], before: Sequence[str]) -> tuple[str, Interval]:
    """Return the word of the later drawings whose removal lowers the share most, and that share."""
    counts = Counter(w.lower() for text in after for w in set(text.split()))
    shares = {}
    for word, _ in counts.most_common(40):
        pair = (judge.decision_function(without(texts, word)) for texts in (after, before))
        shares[word] = share(*pair)
    word = min(shares, key=lambda w: shares[w].mean)
    return word, shares[word]


@torch.inference_mode()
def bits(base: Base, answers: Sequence[str]) -> list[float]:
    """Return the bits per byte of each answer to the prompt."""
    space, codec = base.codec()
    kind, objective = base.config.modalities[space], CausalConfig().build()
    made = []
    for answer in answers:
        chat = kind.clean([*messages_of(PROMPT), {"role": "assistant", "content": answer}])
        sample, segment = codec.encode(chat), base.read([chat], closed=True)
        weight = torch.tensor([[0.0, *np.asarray(sample.weight).tolist(), 1.0]])
        filled = Segment(space, segment.values, segment.position, loss_weight=weight)
        view = objective.view(space, filled, {}, None)  # type: ignore[attr-defined]
        (score,) = view.scored
        nats = (base.model(view).scores[score.term] * score.loss_weight).sum()
        made.append(float(nats) / math.log(2) / sample.units)
    return made


def spam(folder: Path) -> None:
    """Train what is missing, then print what was measured."""
    texts = mails()
    learned, held, apart = (
        {k: some[a:b] for k, some in texts.items()}
        for a, b in ((0, LEARNED), (LEARNED, LEARNED + HELD), (LEARNED + HELD, EACH))
    )
    answers = [text for some in learned.values() for text in some]
    chats = [
        {"messages": [*messages_of(PROMPT), {"role": "assistant", "content": text}]}
        for text in answers
    ]
    pairs = [
        # the number of a pair keeps the store from holding one prompt on one side alone
        {"prompt": PROMPT, "chosen": a, "rejected": b, "group": str(i)}
        for i, (a, b) in enumerate(zip(learned["ham"], learned["spam"], strict=True))
    ]
    vocabulary = ("--set", "model.modalities.text.by.vocab_size=1024")
    start = trained(folder / "chat", "chat", json_lines(folder / "chats.jsonl", chats),
                    *CHAT, *vocabulary)  # fmt: skip
    file = json_lines(folder / "pairs.jsonl", pairs)
    groups = [w for side in ("chosen", "rejected")
              for w in ("--set", f"data.sources.{side}.source.group=group")]  # fmt: skip
    from_chat = (*groups, "--init-from", start)
    reward = trained(folder / "reward", "reward", file, *REWARD, *from_chat)
    preferred = trained(folder / "dpo", "preference", file, *PREFER, *from_chat)
    print(f"machine: {description()}", flush=True)
    answered = {
        label: rewards(load(reward), [chat_of(text) for text in some])
        for label, some in held.items()
    }
    words = judge_of(learned["ham"], learned["spam"], "word")
    features = {label: words.decision_function(some) for label, some in held.items()}
    ours, others = (share(s["ham"], s["spam"]) for s in (answered, features))
    led = [
        [float(a > b) for a, b in zip(s["ham"], s["spam"], strict=True)]
        for s in (answered, features)
    ]
    gap = paired_interval(led[0], led[1])
    print(f"reward model, {HELD} held-out pairs: accuracy {written(ours)}; TF-IDF of words"
          f" {written(others)}; difference {written(gap)}", flush=True)  # fmt: skip
    judge = judge_of(apart["ham"], apart["spam"], "char_wb")
    right = share(*(judge.decision_function(held[label]) for label in ("ham", "spam")))
    print(f"judge on the held-out pairs: {written(right)}")
    base, moved = load(start), load(preferred)
    before, after = (drawn(each, DRAWN) for each in (base, moved))
    won = share(judge.decision_function(after), judge.decision_function(before))
    word, least = weakest(judge, after, before)
    print(f"DPO: the judge prefers {written(won)} of {DRAWN} drawings (goal 0.8); without"
          f" {word!r} {written(least)}", flush=True)  # fmt: skip
    for label in ("ham", "spam"):
        one, two = (bits(each, held[label]) for each in (base, moved))
        change, ratio = paired_interval(two, one), np.mean(two) / np.mean(one) - 1
        print(f"bits per byte of held-out {label}: before {np.mean(one):.3f}, after"
              f" {np.mean(two):.3f}, difference {written(change)}: {ratio:+.1%}"
              f"{' (goal: at most +5 %)' if label == 'ham' else ''}", flush=True)  # fmt: skip
    several = drawn(base, DRAWN * BEST)
    given = np.array(rewards(load(reward), [chat_of(text or "-") for text in several]))
    chosen = [several[i * BEST + int(k)] for i, k in enumerate(given.reshape(-1, BEST).argmax(1))]
    won = share(judge.decision_function(chosen), judge.decision_function(several[::BEST]))
    print(f"best of {BEST} by the reward model against the first: the judge prefers {written(won)}")
    for name, some in (("before", before), ("after", after)):
        print(f"{name}: {some[0]!r}, {some[1]!r}; {np.mean([len(t) for t in some]):.0f} characters")


def chat_of(answer: str, prompt: str = PROMPT) -> list[Any]:
    return [*messages_of(prompt), {"role": "assistant", "content": answer}]


def drawn(base: Base, count: int) -> list[str]:
    """Return answers drawn from a base at temperature 1."""
    sampling = SamplingConfig(temperature=1.0, seed=5)
    outputs: list[str] = base.generate_batch(
        [messages_of(PROMPT)] * count, max_new_tokens=NEW, sampling=sampling, batch=75
    )
    return outputs


def parity() -> None:
    """Print each loss on one batch, and trl's."""
    discover("objectives")
    rng = np.random.default_rng(0)

    def text(count: int) -> str:
        return " ".join(rng.choice(TOY, count))

    rows = [
        {"prompt": f"say {text(3)} {i}", "chosen": text(4), "rejected": text(1 + i % 5)}
        for i in range(60)
    ]
    talks = [{"messages": chat_of(row["chosen"], row["prompt"])} for row in rows]
    losses = {kind: PreferenceLossConfig.named(kind)() for kind in PreferenceLossConfig.choices}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [json_lines(folder / f"{k}.jsonl", r) for k, r in (("chats", talks), ("p", rows))]
        size = ("--depth", 1, "--steps", PARITY_STEPS, "--context", 64)
        small = ("--set", "model.modalities.text.by.vocab_size=300")
        start = trained(folder / "chat", "chat", files[0], *size, *small)
        far = ("--set", "optim.lr=0.02", "--init-from", start)
        moved = trained(folder / "dpo", "preference", files[1], *size, *far)
        models = {False: load(moved).model, True: load(start).model}
        (batch,) = Run.open(moved).mixture().batches(0, 1)
        ours = {kind: loss_of(by, batch, models) for kind, by in losses.items()}
        sides = (answers(batch.segments[side]) for side in ("chosen", "rejected"))
        pairs = [
            {"prompt": prompt, "chosen": chosen, "rejected": rejected}
            for (prompt, chosen), (_, rejected) in zip(*sides, strict=True)
        ]
        given = {"pairs": pairs, "settings": {kind: by.tree() for kind, by in losses.items()}}
        (folder / "batch.json").write_text(json.dumps(given))
        script, folders = BENCH / "peers" / "trl_losses.py", (moved / "model", start / "model")
        command = [peers("preferences"), script, *folders, folder / "batch.json"]
        other = json.loads(measured(command).said.splitlines()[-1])
    gaps = {kind: abs(loss - other[kind]) for kind, loss in ours.items()}
    for kind, loss in sorted(ours.items()):
        print(f"{kind}: {loss:.7f}, trl {other[kind]:.7f}, difference {gaps[kind]:.1e}")
    worst = max(gaps.values())
    print(f"largest difference {worst:.1e}, goal 1e-5: {'met' if worst <= 1e-5 else 'missed'}")


@torch.inference_mode()
def loss_of(by: PreferenceLossConfig, batch: Batch, models: Mapping[bool, Any]) -> float:
    """Return a loss of a batch by the model and its reference."""
    objective = PreferenceConfig(by=by).build()
    views = objective.views(batch, {})
    outputs = [models[view.teacher](view) for view in views]
    return float(combine(objective.loss(outputs, views), objective.term_weights(views)))


def answers(segment: Segment) -> list[tuple[list[int], list[int]]]:
    """Return the ids of each row up to its first target, and those from there on."""
    rows = []
    for b in range(len(segment.values)):
        ids = segment.values[b]
        size = len(ids) if segment.document is None else int((segment.document[b] >= 0).sum())
        first = int((segment.target_weight[b] > 0).int().argmax())
        rows.append((ids[:first].tolist(), ids[first:size].tolist()))
    return rows


def main() -> None:
    """Run what the options name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("--spam", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("runs/preferences"))
    given = parser.parse_args()
    if given.parity:
        parity()
    if given.spam:
        spam(given.folder)


if __name__ == "__main__":
    main()
