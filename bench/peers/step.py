"""The peer's way to train: transformers' Trainer on a Llama; prints seconds and CPU seconds of
each step.

In the peers' environment: step.py WIDTH LAYERS HEADS HIDDEN VOCABULARY ROWS PLACES STEPS COMPILE
"""

import itertools
import json
import sys
import tempfile
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

width, layers, heads, hidden, vocabulary, rows, positions, steps, compiled = map(int, sys.argv[1:])
rng = torch.Generator().manual_seed(0)
ids = torch.randint(3, vocabulary, (rows * steps, positions), generator=rng)
torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
    )
)


ended = []


class Clock(TrainerCallback):
    """When each step ended."""

    def on_step_end(self, args, state, control, **_):
        ended.append((time.perf_counter(), time.process_time()))


with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=rows,
        optim="adamw_torch_fused",
        torch_compile=bool(compiled),
        learning_rate=1e-3,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    data = [{"input_ids": row, "labels": row} for row in ids]
    Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Clock()]).train()
print(json.dumps([(b - a, d - c) for (a, c), (b, d) in itertools.pairwise(ended)]))
