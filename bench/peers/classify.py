"""The peers' way to adapt MiniLM and to predict, in their environment; each prints one JSON line.

classify.py setfit FOLDER TASK ITERATIONS SEED     seconds of training, predictions of the test
classify.py predict FOLDER TASK TABLE OUT ROUNDS   cold start, seconds of each prediction of TABLE

FOLDER is a sentence-transformers folder; TASK a file with `train` and `test`, [text, label] each.
`setfit` is SetFit's Trainer (Tunstall et al. 2022): contrastive pairs, ITERATIONS positive and as
many negative ones for each record, then a logistic regression. `predict` is `encode` of
sentence-transformers with scikit-learn's logistic regression.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

LONGEST = 512  # tokens of a text that are read, as Broadbase does


def setfit(folder: str, task: Any, iterations: str, seed: str) -> dict[str, Any]:
    """Train SetFit on the records; the seconds are those of `train`, the model loaded before."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    model = SetFitModel.from_pretrained(folder, device="cpu")
    texts, labels = zip(*task["train"], strict=True)
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out,
            num_iterations=int(iterations),
            seed=int(seed),
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        data = Dataset.from_dict({"text": list(texts), "label": list(labels)})
        trainer = Trainer(model=model, args=arguments, train_dataset=data)
        cpu, wall = time.process_time(), time.perf_counter()
        trainer.train()
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    predictions = model.predict([text for text, _ in task["test"]])
    return {**spent, "labels": [str(label) for label in predictions]}


def predict(folder: str, task: Any, table: str, out: str, rounds: str) -> dict[str, Any]:
    """Predict a table of texts into a table of labels and probabilities, so many times."""
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    def once(file: str) -> None:
        with Path(file).open(newline="") as rows:
            texts = [row["text"] for row in csv.DictReader(rows)]
        probabilities = head.predict_proba(model.encode(texts, batch_size=32))
        with Path(out).open("w", newline="") as rows:
            writer = csv.writer(rows)
            writer.writerow(["label", *head.classes_])
            best = head.classes_[probabilities.argmax(1)]
            writer.writerows([label, *row] for label, row in zip(best, probabilities, strict=True))

    model = SentenceTransformer(folder, device="cpu")
    model.max_seq_length = LONGEST
    model.encode(["one"])
    cold = time.time() - psutil.Process().create_time()
    texts, labels = zip(*task["train"], strict=True)
    head = LogisticRegression(max_iter=1000).fit(model.encode(list(texts)), labels)
    wall, cpu = [], []
    for _ in range(int(rounds)):
        started = time.process_time(), time.perf_counter()
        once(table)
        cpu.append(time.process_time() - started[0])
        wall.append(time.perf_counter() - started[1])
    return {"cold": cold, "wall": wall, "cpu": cpu}


if __name__ == "__main__":
    what, folder, task, *others = sys.argv[1:]
    work = {"setfit": setfit, "predict": predict}[what]
    print(json.dumps(work(folder, json.loads(Path(task).read_text()), *others)))
