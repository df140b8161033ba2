"""`import --check` begins with text: the ids of both tokenizers, then what comes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers as hf

from broadbase.weights.parity import differences
from support.references import bart, bert, clip, gpt2, qwen2, saved
from support.tokenizers import BERT, ROBERTA, around, folder, words

FOLDERS: dict[str, tuple[Any, Any]] = {
    "bert": (bert, lambda: around(words(BERT, 60, "WordPiece"), ["[CLS]"], ["[SEP]"])),
    "bert backbone": (
        lambda **more: bert(hf.BertModel, **more),
        lambda: around(words(BERT, 60, "WordPiece"), ["[CLS]"], ["[SEP]"]),
    ),
    "qwen2": (qwen2, lambda: words(["<unk>", "<s>"])),
    "gpt2": (gpt2, lambda: around(words(["<unk>", "<s>"]), ["<s>"])),
    "bart": (bart, lambda: around(words(ROBERTA, 60), ["<s>"], ["</s>"])),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_texts_are_the_same(name: str, tmp_path: Path) -> None:
    """Whether a file names the tokenizer's class or not."""
    build, own = FOLDERS[name]
    folder(build, own(), tmp_path)
    if name in ("bert", "gpt2"):
        hf.PreTrainedTokenizerFast(tokenizer_object=own()).save_pretrained(tmp_path)
    rows = differences(tmp_path)
    assert all(row["equal"] for row in rows), rows
    texts = [row["compared"] for row in rows if row["inputs"].startswith("text")]
    assert texts[0] == "ids"
    assert len(texts) == (1 if name == "bart" else 6)


def test_ids_that_are_others_are_seen(tmp_path: Path) -> None:
    """The class that the folder names puts [CLS] first, and its tokenizer.json does not."""
    own = around(words(BERT, 60, "WordPiece"), [], ["[SEP]"])
    folder(bert, own, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer"})
    )
    (row,) = (row for row in differences(tmp_path) if row["compared"] == "ids")
    assert row["difference"] == 1
    assert not row["equal"]


def test_a_folder_without_a_tokenizer_is_compared_by_ids(tmp_path: Path) -> None:
    saved(clip, tmp_path)
    assert all(row["equal"] for row in differences(tmp_path))
