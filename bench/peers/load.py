"""The peer's way to load: datasets with transformers' default collator, in PyTorch's DataLoader.

In the peers' environment: load.py IDS LENGTH ROWS STEPS FORMAT; prints seconds of STEPS batches
"""

import json
import sys
import tempfile
import time
from itertools import islice

import numpy as np
from datasets import Dataset, load_from_disk
from torch.utils.data import DataLoader
from transformers import default_data_collator

ids, length, rows, steps = sys.argv[1], *map(int, sys.argv[2:5])
values = np.load(ids, mmap_mode="r")
count = len(values) // length
cut = values[: count * length].reshape(count, length)
with tempfile.TemporaryDirectory() as folder:
    columns = dict.fromkeys(("input_ids", "labels"), cut.tolist())
    Dataset.from_dict(columns).save_to_disk(folder + "/store")
    data = load_from_disk(folder + "/store")
    data = data.with_format("torch") if sys.argv[5] == "torch" else data
    loader = DataLoader(data, batch_size=rows, shuffle=True, collate_fn=default_data_collator)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        result = sum(1 for _ in islice(iter(loader), steps))
        seconds.append((time.perf_counter() - began) / result)
print(json.dumps(seconds[1:]))
