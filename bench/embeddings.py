"""Sentence embeddings of a published encoder beside transformers', on real sentences.

    python bench/embeddings.py FOLDER [SENTENCES]

FOLDER holds an encoder with its tokenizer (all-MiniLM-L6-v2, for one). The sentences are first
lines of docstrings of the standard library. Prints the largest difference of a mean over places,
relative to the largest number.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

from broadbase.weights.folder import load


def sentences() -> Iterator[str]:
    """First lines of docstrings, each once."""
    seen = set()
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
            text = ast.get_docstring(node) if isinstance(node, kinds) else None
            line = (text or "").split("\n")[0].strip()
            if len(line) > 20 and line not in seen:
                seen.add(line)
                yield line


@torch.inference_mode()
def main(folder: str, count: int = 1000) -> None:
    texts = [text for text, _ in zip(sentences(), range(count), strict=False)]
    words, reference = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    reference.eval()
    theirs = []
    for i in range(0, len(texts), 32):
        given = words(texts[i : i + 32], padding=True, return_tensors="pt")
        keep = given["attention_mask"].unsqueeze(-1)
        states = reference(**given).last_hidden_state
        theirs.append((states * keep).sum(1) / keep.sum(1))
    expected = torch.cat(theirs)
    ours = torch.from_numpy(load(folder).embed(texts, layers=False))
    worst = float((ours - expected).abs().max() / expected.abs().max())
    print(f"{len(texts)} sentences, {expected.shape[1]} numbers each: differ by {worst:.2e}")


if __name__ == "__main__":
    main(sys.argv[1], *(int(n) for n in sys.argv[2:]))
