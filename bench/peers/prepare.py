"""The peers' way to prepare text: datasets.map, tokenizers, and MinHash LSH by datasketch.

Run in the peers' environment: prepare.py CORPUS TOKENIZER OUT PROCESSES
"""

import re
import sys
import unicodedata
from pathlib import Path

import ftfy
import numpy as np
from datasets import load_dataset
from datasketch import MinHash, MinHashLSH
from tokenizers import Tokenizer

WORD = re.compile(r"\w+")
PERMUTATIONS, SIMILARITY = 126, 0.75


def prepared(batch, tokenizer):
    """Clean, sketch and encode some texts."""
    texts = [unicodedata.normalize("NFC", ftfy.fix_encoding(text)) for text in batch["text"]]
    sketches = []
    for text in texts:
        words = WORD.findall(text.lower())
        minhash = MinHash(PERMUTATIONS)
        runs = zip(words, words[1:], words[2:], strict=False)
        minhash.update_batch([" ".join(run).encode() for run in runs])
        sketches.append(minhash.hashvalues)
    ids = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    return {"ids": ids, "sketch": sketches}


def main(corpus: Path, tokenizer: Path, out: Path, processes: int) -> None:
    """Texts of JSON lines to a folder of token ids without near duplicates."""
    files = sorted(map(str, corpus.glob("*.jsonl")))
    texts = load_dataset("json", data_files=files, split="train", cache_dir=str(out / "cache"))
    encoder = Tokenizer.from_file(str(tokenizer))
    rows = texts.map(
        prepared,
        batched=True,
        num_proc=processes,
        remove_columns=texts.column_names,
        fn_kwargs={"tokenizer": encoder},
    )
    index = MinHashLSH(threshold=SIMILARITY, num_perm=PERMUTATIONS)
    kept = []
    for i, values in enumerate(rows.with_format("numpy")["sketch"]):
        minhash = MinHash(PERMUTATIONS, hashvalues=np.asarray(values, dtype=np.uint64))
        if not index.query(minhash):
            index.insert(i, minhash)
            kept.append(i)
    rows.select(kept).remove_columns("sketch").save_to_disk(str(out / "store"), num_proc=processes)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), int(sys.argv[4]))
