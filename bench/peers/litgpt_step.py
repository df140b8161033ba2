"""Another peer's way to train: litgpt's GPT in a plain loop; prints seconds and CPU seconds of each
step.

In its environment: litgpt_step.py WIDTH LAYERS HEADS HIDDEN VOCABULARY ROWS PLACES STEPS COMPILE
"""

import itertools
import json
import sys
import time

import torch
from litgpt import GPT, Config
from torch.nn.functional import cross_entropy

width, layers, heads, hidden, vocabulary, rows, positions, steps, compiled = map(int, sys.argv[1:])
rng = torch.Generator().manual_seed(0)
torch.manual_seed(0)
model = GPT(
    Config(
        n_layer=layers,
        n_head=heads,
        n_embd=width,
        block_size=positions,
        vocab_size=vocabulary,
        padded_vocab_size=vocabulary,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        intermediate_size=hidden,
        bias=False,
        rotary_percentage=1.0,
        parallel_residual=False,
    )
)
model.lm_head.weight = model.transformer.wte.weight
forward = torch.compile(model, dynamic=False) if compiled else model
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
ended = []
for _ in range(steps):
    ids = torch.randint(3, vocabulary, (rows, positions + 1), generator=rng)
    logits = forward(ids[:, :-1])
    cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    ended.append((time.perf_counter(), time.process_time()))
print(json.dumps([(b - a, d - c) for (a, c), (b, d) in itertools.pairwise(ended)]))
