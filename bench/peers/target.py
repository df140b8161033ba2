"""The peer's way to train on given rows: transformers' Trainer on a Llama; and the loss of any.

In the peers' environment:
target.py train ROWS.npz SHAPE/config.json SETTINGS.json OUT: prints the seconds of `train()`
target.py score ROWS.npz FOLDER: prints nats a scored place of the held-out rows
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer
from transformers import TrainingArguments as Arguments


def rows_of(file, split):
    """Ids, and labels where a place is scored."""
    with np.load(file) as result:
        ids = torch.from_numpy(result[f"{split} ids"].astype(np.int64))
        scored = torch.from_numpy(result[f"{split} scored"])
    return ids, ids.masked_fill(~scored, -100)


def train(file, shape, settings, out):
    """Prints the seconds of the training alone: reading the rows and saving are not counted."""
    ids, labels = rows_of(file, "train")
    torch.manual_seed(settings.pop("seed"))
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(Path(shape).parent))
    arguments = Arguments(
        output_dir=out,
        optim="adamw_torch_fused",
        adam_beta2=0.95,
        weight_decay=0.1,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        **settings,
    )
    data = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]
    trainer = Trainer(model=model, args=arguments, train_dataset=data)
    cpu, wall = time.process_time(), time.perf_counter()
    trainer.train()
    seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    model.save_pretrained(out)
    print("\n" + json.dumps(seconds))


@torch.inference_mode()
def score(file, folder):
    """The mean over all scored places."""
    ids, labels = rows_of(file, "held_out")
    model = AutoModelForCausalLM.from_pretrained(folder)
    total, positions = 0.0, 0
    for some, wanted in zip(ids.split(16), labels.split(16), strict=True):
        count = int((wanted[:, 1:] >= 0).sum())
        total += float(model(input_ids=some, labels=wanted).loss) * count
        positions += count
    print(json.dumps(total / positions))


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "train":
        file, shape, settings, out = words
        train(file, shape, json.loads(Path(settings).read_text()), out)
    else:
        score(*words)
