"""What llama.cpp makes of a GGUF file: the ids of texts, and the logits after given ids.

In the peers' environment: llamacpp.py FILE.gguf ASKED.json OUT.npz
"""

import json
import sys
from pathlib import Path

import numpy as np
from llama_cpp import GGML_TYPE_F32, Llama

file, asked, out = sys.argv[1:]
given = json.loads(Path(asked).read_text())
places = 1 + given["steps"] + max(map(len, given["ids"]))
model = Llama(
    file,
    n_ctx=max(512, places),
    n_threads=1,
    logits_all=True,
    type_k=GGML_TYPE_F32,
    type_v=GGML_TYPE_F32,
    flash_attn=False,
    verbose=False,
)
found = {}
for i, text in enumerate(given["texts"]):
    found[f"told {i}"] = np.array(model.tokenize(text.encode(), add_bos=False, special=False))
for i, ids in enumerate(given["ids"]):
    whole = list(ids)
    model.reset()
    model.eval(whole)
    for _ in range(given["steps"]):  # greedy
        whole.append(int(np.argmax(model.scores[len(whole) - 1])))
        model.eval(whole[-1:])
    found[f"ids {i}"] = np.array(whole)
    found[f"logits {i}"] = np.array(model.scores[: len(whole)])
model.close()
np.savez(out, **found)
