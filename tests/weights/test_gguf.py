"""GGUF is read back tensor for tensor, and run by llama.cpp where it is installed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers

from broadbase.core.contracts import ModalityConfig
from broadbase.core.errors import ConfigError
from broadbase.core.view import Predict, Segment, Stream, View, positions
from broadbase.inference.base import Base
from broadbase.model.model import ModelConfig
from broadbase.weights.folder import load, save
from broadbase.weights.gguf import LLAMA3, write_gguf
from support.bases import TEXTS, mixed_base, text_base
from support.references import (
    DECODERS,
    LINEAR,
    YARN,
    gpt2,
    llama,
    mistral,
    qwen2,
    qwen3,
    saved,
    starcoder2,
)
from support.references import LLAMA3 as LLAMA3_ROPE

WORDS = 300
START, STEPS = "<s>", 48
UNSEEN = "It's the  hat, 'the' cat;\n\n  on a mat of 1234 €!"
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: llama(vocab_size=WORDS),
    "llama llama3": lambda: llama(vocab_size=WORDS, tie_word_embeddings=True, **LLAMA3_ROPE),
    "llama linear": lambda: llama(vocab_size=WORDS, **LINEAR),
    "llama yarn": lambda: llama(vocab_size=WORDS, **YARN),
    "mistral": lambda: mistral(vocab_size=WORDS, sliding_window=None),
    "gpt2": lambda: gpt2(vocab_size=WORDS),
    "gpt2 wide": lambda: gpt2(vocab_size=WORDS, n_inner=60, n_head=3),
    "qwen2": lambda: qwen2(vocab_size=WORDS, tie_word_embeddings=True),
    "qwen3": lambda: qwen3(vocab_size=WORDS),
    "starcoder2": lambda: starcoder2(vocab_size=WORDS, sliding_window=None),
}


def tokenizer(cut: str, *, begins: bool) -> Tokenizer:
    """A byte-level BPE as published ones are: by GPT-2's regex, or one of its own."""
    result = Tokenizer(models.BPE())
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if cut:
        plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        split = pre_tokenizers.Split(Regex(cut), "isolated")
        result.pre_tokenizer = pre_tokenizers.Sequence([split, plain])
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=["<a>", "<b>", "<c>", START],  # its number is the references' bos_token_id
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    result.train_from_iterator(TEXTS * 9, trainer)
    if begins:
        result.post_processor = processors.TemplateProcessing(
            single=f"{START} $A", special_tokens=[(START, 3)]
        )
    return result


def base_of(name: str, folder: Path) -> Base:
    """Ours; or a reference in our backbone, with a tokenizer."""
    if name == "ours":
        save(text_base(), folder)
    else:
        saved(MODELS[name], folder)
        cut = LLAMA3 if name == "llama llama3" else ""
        tokenizer(cut, begins=bool(cut)).save(str(folder / "tokenizer.json"))
    return load(folder)


@pytest.mark.parametrize("name", ["ours", *MODELS])
def test_every_tensor_is_read_back(name: str, tmp_path: Path) -> None:
    """As many numbers, the same but for their order within heads; settings and tokens too."""
    base = base_of(name, tmp_path / "m")
    write_gguf(base, tmp_path / "m.gguf")
    reader = GGUFReader(tmp_path / "m.gguf")
    result = {tensor.name: torch.tensor(tensor.data) for tensor in reader.tensors}
    result.pop("rope_freqs.weight", None)
    ours = base.model.state_dict()
    assert sum(t.numel() for t in result.values()) == sum(
        t.numel() for k, t in ours.items() if not k.endswith(".mask")
    )
    assert torch.equal(result["token_embd.weight"], ours["spaces.text.embedding.weight"])
    down = ours["towers.main.blocks.1.feedforward.branch.down.weight"]
    assert torch.equal(result["blk.1.ffn_down.weight"], down)
    text = {name: field.contents() for name, field in reader.fields.items()}
    assert len(text["tokenizer.ggml.tokens"]) == WORDS
    assert text["tokenizer.ggml.pre"] == ("llama-bpe" if name == "llama llama3" else "gpt-2")
    assert text["tokenizer.ggml.add_bos_token"] == (name in ("ours", "llama llama3"))
    assert text["tokenizer.ggml.bos_token_id"] == int(base.codecs["text"].start)


def test_every_end_and_the_chat_template_go_along(tmp_path: Path) -> None:
    """Of a conversation: its turns have an end of their own."""
    base_of("llama llama3", tmp_path / "m")
    for name in ("config.json", "generation_config.json"):
        seen = json.loads((tmp_path / "m" / name).read_text())
        ends = 1 if name == "config.json" else [1, 2]
        (tmp_path / "m" / name).write_text(json.dumps({**seen, "eos_token_id": ends}))
    for name, content in (
        ("tokenizer_config.json", {"chat_template": [{"name": "default", "template": "{{ 1 }}"}]}),
        ("tokenizer_config.json", {"chat_template": "{{ 1 }}"}),
        ("chat_template.jinja", None),
    ):
        output = "{{ 1 }}" if content is None else json.dumps(content)
        (tmp_path / "m" / name).write_text(output)
        write_gguf(load(tmp_path / "m"), tmp_path / "m.gguf")
        fields = GGUFReader(tmp_path / "m.gguf").fields
        text = {k.removeprefix("tokenizer."): v.contents() for k, v in fields.items()}
        assert [text[f"ggml.{role}_token_id"] for role in ("bos", "eos", "eot")] == [3, 1, 2]
        assert text["chat_template"] == "{{ 1 }}"
        (tmp_path / "m" / name).unlink()
        (tmp_path / "m.gguf").unlink()


@pytest.mark.parametrize("name", ["ours", *MODELS])
def test_llamacpp_computes_the_same(name: str, tmp_path: Path) -> None:
    """The ids of a text, the logits at all its places, and 48 greedy steps after it."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="needs llama.cpp: llama-cpp-python")
    base = base_of(name, tmp_path / "m")
    write_gguf(base, tmp_path / "m.gguf")
    fp32 = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
    how = {"n_ctx": 128, "n_threads": 1, "logits_all": True, "verbose": False}
    expected = llama_cpp.Llama(str(tmp_path / "m.gguf"), flash_attn=False, **fp32, **how)
    codec: Any = base.codecs["text"]
    text = "the cat sat on a mat"
    full = [int(codec.start), *codec.encode(text).values.tolist()]
    begins = name in ("ours", "llama llama3")
    assert expected.tokenize(text.encode(), special=False) == full[not begins :]
    output = expected.tokenize(UNSEEN.encode(), add_bos=False, special=False)
    if name != "ours":
        assert output == codec.encode(UNSEEN).values.tolist()
    assert expected.detokenize(output).decode() == UNSEEN
    expected.eval(full)
    for _ in range(STEPS):
        full.append(int(np.argmax(expected.scores[len(full) - 1])))
        expected.eval(full[-1:])
    result = np.array(expected.scores[: len(full)])
    given = torch.tensor([full])
    segment = Segment("text", given, positions((len(full),))[None])
    stream = Stream("main", "main", (segment,), "causal", readouts=(Predict("text", "x"),))
    with torch.no_grad():
        ours = base.model(View((stream,))).predictions["x"][0].numpy()
    # llama.cpp looks GELU up in a table of half precision
    bar = 1e-3 if "gpt2" in name or "starcoder" in name else 1e-5
    assert np.abs(result - ours).max() < bar * np.abs(ours).max()
    drawn = ours[-STEPS - 1 : -1]  # where two ids are as good as equal, either may be taken
    taken = drawn[np.arange(STEPS), full[-STEPS:]]
    assert (drawn.max(axis=1) - taken).max() < bar * np.abs(ours).max()
    expected.close()


def test_llamacpp_cuts_code_nearly_as_we_do(tmp_path: Path) -> None:
    """A break with the indentation after it is one id, which no cut with a name there keeps."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="needs llama.cpp: llama-cpp-python")
    modality = ModalityConfig.from_tree({"name": "code", "vocab_size": 600})
    config = ModelConfig(modalities={"code": modality}, towers=text_base().config.towers)
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    codec: Any = modality.fit([file.read_text() for file in files[::2]])
    base = Base(config, config.build().eval(), {"code": codec})
    write_gguf(base, tmp_path / "m.gguf")
    expected = llama_cpp.Llama(str(tmp_path / "m.gguf"), vocab_only=True, verbose=False)
    text = files[1].read_text()
    ours = codec.encode(text).values.tolist()
    output = expected.tokenize(text.encode(), add_bos=False, special=False)
    assert expected.detokenize(output).decode() == text
    others = difflib.SequenceMatcher(None, ours, output, autojunk=False).get_opcodes()
    changed = sum(i2 - i1 for kind, i1, i2, *_ in others if kind != "equal")
    expected.close()
    assert changed < 0.02 * len(ours)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mixed", "only text decoders go to GGUF.*this is a broadbase"),
        ("mixtral", "only text decoders go to GGUF.*this is a mixtral"),
        ("mistral", "no windows"),
        ("qwen3 yarn", "scaling of a qwen3"),
        ("llama biased", "no byte-level byte-pair encoding"),
    ],
)
def test_what_llamacpp_has_no_place_for_is_named(name: str, message: str, tmp_path: Path) -> None:
    if name == "mixed":
        base = mixed_base()
    else:
        saved(DECODERS[name], tmp_path / "m")
        base = load(tmp_path / "m")
    with pytest.raises(ConfigError, match=message):
        write_gguf(base, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()
