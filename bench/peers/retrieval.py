"""The peer's search by words: bm25s, with its own tokens and English stop words.

In the peers' environment: retrieval.py FOLDER

It reads passages and queries in FOLDER/given.json, and writes the numbers of the 10 best passages
of each query, and the seconds of CPU for the index and for the queries.
"""

import json
import sys
import time
from pathlib import Path

import bm25s

folder = Path(sys.argv[1])
given = json.loads((folder / "given.json").read_text())
began = time.process_time()
model = bm25s.BM25()
model.index(
    bm25s.tokenize(given["passages"], stopwords="en", show_progress=False), show_progress=False
)
indexed = time.process_time()
queries = bm25s.tokenize(given["queries"], stopwords="en", show_progress=False)
numbers, _ = model.retrieve(queries, k=10, show_progress=False)
seconds = [indexed - began, time.process_time() - indexed]
(folder / "result.json").write_text(json.dumps({"best": numbers.tolist(), "seconds": seconds}))
