"""The peer's way to embed: sentence-transformers' `encode`; prints the seconds of each of ROUNDS.

In the peers' environment: embed.py FOLDER TEXTS OUT ROUNDS
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

folder, texts, out, rounds = sys.argv[1:]
model = SentenceTransformer(folder, device="cpu")
sentences = json.loads(Path(texts).read_text())
model.encode(sentences[:64])
seconds = []
for _ in range(int(rounds)):
    began = time.perf_counter()
    result = model.encode(sentences, batch_size=32, normalize_embeddings=False)
    seconds.append(time.perf_counter() - began)
np.save(out, result)
print(json.dumps(seconds))
