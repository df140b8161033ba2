"""PEFT's two files, in and out: each computes what the other has written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.core.view import Predict, Stream, View
from broadbase.inference.base import Base
from broadbase.nn.adapters.adapted import adapted
from broadbase.nn.adapters.adapter import AdapterConfig, AdapterWeights
from broadbase.nn.adapters.dora import DoRAConfig
from broadbase.nn.adapters.ia3 import IA3Config
from broadbase.nn.adapters.lora import LoRAConfig
from broadbase.weights.folder import load
from broadbase.weights.peft import CONFIG, TENSORS, read_adapter, write_adapter
from support import references
from support.adapters import random_adapter
from support.parity import close, ids, segment

peft = pytest.importorskip("peft", reason="the dev extra has it")

FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": references.llama,  # one name for each map
    "gpt2": references.gpt2,  # queries, keys and values in one matrix, stored as [in, out]
    "modernbert": references.modernbert,  # the same as [out, in], and gate and up in one
    "bert": references.bert,
}
OURS: dict[str, AdapterConfig] = {
    "lora": LoRAConfig(rank=3),
    "queries and values": LoRAConfig(rank=2, alpha=5, rank_stabilised=True, targets=("q", "v")),
    "dora": DoRAConfig(rank=3),
    "ia3": IA3Config(),
}
ATTENTION = {  # PEFT's names of maps: of attention, and of the last one of a feed-forward
    "llama": (["q_proj", "v_proj", "o_proj"], "mlp.down_proj"),
    "gpt2": (["c_attn", "attn.c_proj"], "mlp.c_proj"),
    "modernbert": (["Wqkv", "attn.Wo"], "mlp.Wo"),
    "bert": (["query", "value", "attention.output.dense"], r"\d.output.dense"),
}


def peft_config(family: str, kind: str) -> Any:
    attention, down = ATTENTION[family]
    every = rf".*({'|'.join([*attention, down])})"
    if kind == "ia3":
        return peft.IA3Config(target_modules=every, feedforward_modules=rf".*{down}")
    more = {"use_rslora": True} if kind == "rslora" else {}
    more |= {"rank_pattern": {down: 5}, "alpha_pattern": {down: 3}} if kind == "pattern" else {}
    return peft.LoraConfig(target_modules=every, r=3, lora_alpha=7, use_dora=kind == "dora", **more)


@torch.no_grad()
def logits(base: Base, adapter: AdapterWeights | None = None) -> Tensor:
    model = base.model if adapter is None else adapted(base.model, adapter)
    read = Predict("text", "x")
    stream = Stream("main", "main", (segment(ids()),), base.usage.attention, readouts=(read,))
    return model(View((stream,))).predictions["x"]


@pytest.fixture(scope="module", params=list(FAMILIES))
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Base, Path]:
    """A random model of transformers, and the base that is read from its folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    model = FAMILIES[request.param]().eval()
    model.save_pretrained(folder)
    return request.param, model, load(folder), folder


def again(pair: tuple[str, Any, Base, Path]) -> Any:
    """The same model of transformers without adapters."""
    return type(pair[1]).from_pretrained(pair[3]).eval()


@pytest.mark.parametrize("kind", ["lora", "rslora", "pattern", "dora", "ia3"])
def test_we_compute_what_peft_does(pair: Any, kind: str, tmp_path: Path) -> None:
    family, _, base, _ = pair
    torch.manual_seed(1)
    model = peft.get_peft_model(again(pair), peft_config(family, kind)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "ia3_" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(ids()).logits
    ours = logits(base, read_adapter(tmp_path, base))
    assert close(ours, expected)
    assert not close(logits(base), expected, 1e-2)


@pytest.mark.parametrize("kind", list(OURS))
def test_peft_computes_what_we_do(pair: Any, kind: str, tmp_path: Path) -> None:
    _, _, base, folder = pair
    own = random_adapter(base.model, OURS[kind], size=0.1)
    write_adapter(own, base, tmp_path / "adapter", str(folder))
    model = peft.PeftModel.from_pretrained(again(pair), tmp_path / "adapter").eval()
    with torch.no_grad():
        expected = model(ids()).logits
    assert close(logits(base, own), expected)
    assert not close(logits(base), expected, 1e-2)
    back = read_adapter(tmp_path / "adapter", base)
    assert close(logits(base, back), logits(base, own))


def test_what_leaves_comes_back_with_the_same_bits(tmp_path: Path) -> None:
    references.llama().save_pretrained(tmp_path / "base")
    base = load(tmp_path / "base")
    for kind in (LoRAConfig(rank=3), DoRAConfig(rank=2), IA3Config()):
        own = random_adapter(base.model, kind)
        write_adapter(own, base, tmp_path / kind.name, "base")
        back = read_adapter(tmp_path / kind.name, base)
        assert back.tensors.keys() == own.tensors.keys()
        assert all(torch.equal(t, own.tensors[k]) for k, t in back.tensors.items())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Base, Path]:
    folder = tmp_path_factory.mktemp("written")
    references.llama().save_pretrained(folder / "base")
    base = load(folder / "base")
    write_adapter(random_adapter(base.model, LoRAConfig(rank=2)), base, folder / "adapter", "base")
    return base, folder / "adapter"


def changed(adapter: Path, to: Path, **fields: Any) -> Path:
    to.mkdir()
    tree = json.loads((adapter / CONFIG).read_text()) | fields
    (to / CONFIG).write_text(json.dumps(tree))
    (to / TENSORS).write_bytes((adapter / TENSORS).read_bytes())
    return to


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "LOHA"}, "'LOHA' is not supported; use an adapter of lora, dora, ia3"),
        ({"bias": "all"}, "bias='all' is not supported"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
    ],
)
def test_what_changes_more_than_maps_is_refused(
    written: tuple[Base, Path], tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_adapter(changed(written[1], tmp_path / "a", **fields), written[0])


def test_an_adapter_of_another_base_is_refused(written: tuple[Base, Path], tmp_path: Path) -> None:
    """Of another family, of other sizes, and of other weights of the same sizes."""
    others = {
        "none of its tensors applies": references.gpt2(),
        "made for another base": references.llama(intermediate_size=96),
        "trained on other weights": references.llama(),
        "lora_A.weight and .* more tensors apply to nothing": references.llama(num_hidden_layers=2),
    }
    for message, model in others.items():
        model.save_pretrained(tmp_path / message)
        with pytest.raises(ConfigError, match=message):
            read_adapter(written[1], load(tmp_path / message))


def test_damaged_files_are_named(written: tuple[Base, Path], tmp_path: Path) -> None:
    base, adapter = written
    tensors = load_file(adapter / TENSORS)
    lacking = changed(adapter, tmp_path / "lacking")
    first = next(name for name in tensors if "lora_A" in name)
    save_file({k: t for k, t in tensors.items() if k != first}, lacking / TENSORS)
    cut = changed(adapter, tmp_path / "cut")
    (cut / TENSORS).write_bytes((adapter / TENSORS).read_bytes()[:-9])
    gone = changed(adapter, tmp_path / "gone")
    (gone / TENSORS).unlink()
    no_rank = changed(adapter, tmp_path / "no rank", r=None)
    for folder, message in (
        (lacking, "lacks .*lora_A.weight"),
        (cut, "cut/adapter_model.safetensors cannot be read"),
        (gone, "adapter_model.safetensors is not there"),
        (no_rank, "no rank/adapter_config.json"),
        (tmp_path / "nowhere", "nowhere/adapter_config.json"),
    ):
        with pytest.raises(BroadbaseError, match=message):
            read_adapter(folder, base)
    with pytest.raises(DataError):
        read_adapter(lacking, base)
