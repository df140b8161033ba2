"""Large models leave in several files with an index, as transformers writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.weights.folder import load, save
from broadbase.weights.shards import LazyTensor, cut
from support.bases import text_base
from support.programs import run
from support.references import bert, gpt2, gpt_oss, llama, llava, saved

INDEX = "model.safetensors.index.json"
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama tied": lambda: llama(tie_word_embeddings=True),
    "gpt2, turned": gpt2,
    "gpt_oss, stacked": gpt_oss,
    "bert": bert,
    "llava, partly kept": llava,
}


def weights(folder: Path) -> dict[str, bytes]:
    """Every file of published weights, and the index."""
    files = [*folder.glob("model*.safetensors"), folder / INDEX]
    return {file.name: file.read_bytes() for file in files if file.exists()}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_in_shards_leaves_as_it_came(name: str, tmp_path: Path) -> None:
    """The same files with the same bytes, and the same index but for what it counts."""
    saved(FAMILIES[name], tmp_path / "one").save_pretrained(
        tmp_path / "theirs", max_shard_size="40KB"
    )
    save(load(tmp_path / "theirs"), tmp_path / "ours")
    ours, peer = weights(tmp_path / "ours"), weights(tmp_path / "theirs")
    assert len(peer) > 3
    indices = [json.loads(files.pop(INDEX)) for files in (ours, peer)]
    assert ours == peer
    assert indices[0]["weight_map"] == indices[1]["weight_map"]
    assert indices[0]["metadata"]["total_size"] == indices[1]["metadata"]["total_size"]
    save(load(tmp_path / "ours"), tmp_path / "whole", limit=10**9)
    assert weights(tmp_path / "whole").keys() == {"model.safetensors"}
    again = load(tmp_path / "whole").model.state_dict()
    for tensor, value in load(tmp_path / "one").model.state_dict().items():
        assert torch.equal(again[tensor], value)


def test_a_base_of_ours_in_shards_is_opened_by_transformers(tmp_path: Path) -> None:
    base = text_base()
    save(base, tmp_path / "whole")
    words = ["export", str(tmp_path / "whole"), "--to", "hf", "--shard", "0.000008"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "cut")])
    assert done.exit_code == 0, done.output
    files = sorted((tmp_path / "cut").glob("model-*.safetensors"))
    assert len(files) > 2
    assert files[0].name == f"model-00001-of-{len(files):05}.safetensors"
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    for file in files:
        tensors = load_file(file)
        assert len(tensors) == 1 or sum(t.nbytes for t in tensors.values()) <= 8000
    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "cut")
    ids = torch.tensor([[256, 5, 6, 7]])
    with torch.no_grad():
        expected = reference(ids).logits
        assert torch.equal(
            AutoModelForCausalLM.from_pretrained(tmp_path / "whole")(ids).logits, expected
        )
    again = load(tmp_path / "cut").model.state_dict()
    assert all(torch.equal(again[k], v) for k, v in base.model.state_dict().items())
    save(base, tmp_path / "own", 8000)
    save(base, tmp_path / "own")  # an older folder at the place leaves nothing behind
    assert weights(tmp_path / "own") == weights(tmp_path / "whole")


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12), limit=st.integers(1, 100))
def test_files_are_cut_as_the_hubs_client_cuts_them(sizes: list[int], limit: int) -> None:
    tensors = {f"t{i}": torch.zeros(size, dtype=torch.uint8) for i, size in enumerate(sizes)}
    ours = cut({name: LazyTensor.of(tensor) for name, tensor in tensors.items()}, limit)
    peer = split_torch_state_dict_into_shards(tensors, max_shard_size=limit)
    assert ours == peer.tensor_to_filename


MEASURE = """
import sys
from pathlib import Path
from broadbase.weights.folder import load, save
def memory(field):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(field)) * 1024
save(load(sys.argv[2]), Path(sys.argv[2] + "-again"))
base = load(sys.argv[1])
open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
before = memory("VmRSS")
save(base, Path(sys.argv[3]), limit=int(sys.argv[4]))
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_writing_takes_little_more_than_a_file(tmp_path: Path) -> None:
    """Also where every matrix is turned on the way."""
    gpt2(n_embd=768, n_layer=8, n_head=12, vocab_size=8000).save_pretrained(tmp_path / "large")
    saved(gpt2, tmp_path / "small")
    limit = 30_000_000
    positions = [str(tmp_path / name) for name in ("large", "small", "out")]
    done = run(MEASURE, *positions, limit, check=True)
    assert (
        sum(file.stat().st_size for file in (tmp_path / "out").glob("model-*.safetensors")) > 200e6
    )
    assert int(done.stdout) < 1.3 * limit
