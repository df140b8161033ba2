"""What llama.cpp makes of a GGUF file: the ids of texts, and the logits after given ids.

In the peers' environment: llamacpp.py FILE.gguf ASKED.json OUT.npz
"""

import json
import sys
from pathlib import Path

import numpy as np
from llama_cpp import GGML_TYPE_F32, Llama

file, requested, out = sys.argv[1:]
given = json.loads(Path(requested).read_text())
positions = 1 + given["steps"] + max(map(len, given["ids"]))
model = Llama(
    file,
    n_ctx=max(512, positions),
    n_threads=1,
    logits_all=True,
    type_k=GGML_TYPE_F32,
    type_v=GGML_TYPE_F32,
    flash_attn=False,
    verbose=False,
)
result = {}
for i, text in enumerate(given["texts"]):
    result[f"told {i}"] = np.array(model.tokenize(text.encode(), add_bos=False, special=False))
for i, ids in enumerate(given["ids"]):
    full = list(ids)
    model.reset()
    model.eval(full)
    for _ in range(given["steps"]):  # greedy
        full.append(int(np.argmax(model.scores[len(full) - 1])))
        model.eval(full[-1:])
    result[f"ids {i}"] = np.array(full)
    result[f"logits {i}"] = np.array(model.scores[: len(full)])
model.close()
np.savez(out, **result)
