"""Text in and out of published folders, against transformers: special tokens, templates, ends."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
)

from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.modalities.special import special
from broadbase.modalities.tokens import TokensCodec, TokensConfig
from broadbase.nn.spaces.discrete import DiscreteConfig
from broadbase.weights.folder import load, save
from support.references import (
    bart,
    bert,
    gpt2,
    llama,
    modernbert,
    qwen2,
    roberta,
    saved,
    t5,
    whisper,
)
from support.tokenizers import BERT, ROBERTA, WORDS, around, folder, words

GREEDY = SamplingConfig(temperature=0)
TEXT = "the protein binds to a receptor"


@torch.no_grad()
def test_a_bert_whose_ids_are_others(tmp_path: Path) -> None:
    """As SciBERT's: [CLS] is 102 there, and 103 [SEP]."""
    own = around(words(BERT, 101, "WordPiece"), ["[CLS]"], ["[SEP]"])
    reference = folder(bert, own, tmp_path, hidden_act="gelu")
    base = load(tmp_path)
    codec, space = base.codecs["text"], base.config.modalities["text"]
    assert (int(codec.start), int(codec.end), space.discrete.mask_id) == (102, 103, 104)  # type: ignore
    ids = torch.tensor([own.encode(TEXT).ids])
    states = reference.bert(ids).last_hidden_state.mean(dim=1)[0].numpy()
    assert np.abs(base.embed([TEXT], layers=False)[0] - states).max() < 1e-5
    assert (base.logits(TEXT) - reference(ids).logits[0]).abs().max() < 1e-5
    hidden = "the [MASK] binds"
    ids = torch.tensor([own.encode(hidden).ids])
    assert (base.logits(hidden) - reference(ids).logits[0]).abs().max() < 1e-5


def test_where_masks_stand(tmp_path: Path) -> None:
    for build, marks in ((roberta, ROBERTA), (modernbert, BERT), (bart, ROBERTA)):
        at = tmp_path / build.__name__
        own = words(marks)  # without a template, as a family's usual ends
        folder(build, own, at)
        base = load(at)
        codec, space = base.codecs["text"], base.config.modalities["text"]
        result = [int(codec.start), int(codec.end), space.discrete.mask_id]  # type: ignore
        assert result == [1, 2, 3], build.__name__


def test_a_vocabulary_alone_names_ids_too() -> None:
    lines = "\r\n".join(["[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]", "the"]).encode()
    result = special({"vocab.txt": lines})
    assert result is not None
    assert {result.roles[r] for r in ("cls_token", "sep_token", "mask_token")} == {2, 3, 4}
    assert not result.readable
    named = {"mask_token": {"content": "the"}, "sep_token": "[PAD]", "cls_token": "[NONE]"}
    files = {"vocab.txt": lines, "special_tokens_map.json": json.dumps(named).encode()}
    result = special(files)
    assert result is not None
    assert (result.roles["mask_token"], result.roles["sep_token"], result.roles["cls_token"]) == (
        5,
        0,
        3,
    )
    decoder = {"added_tokens_decoder": {"7": {"content": "</s>", "special": True}}}
    result = special({"tokenizer_config.json": json.dumps(decoder).encode()})
    assert result is not None
    assert result.roles["sep_token"] == 7
    assert special({"spiece.model": b"\0"}) is None


@torch.no_grad()
@pytest.mark.parametrize("bos", [None, 1])
def test_a_decoder_whose_tokenizer_puts_nothing_first(bos: int | None, tmp_path: Path) -> None:
    """As Qwen's: what config.json calls bos is for training, and id 0 is a word."""
    own = words(["<unk>", "<|im_start|>", "<|end|>"])
    reference = folder(qwen2, own, tmp_path, bos_token_id=bos, eos_token_id=2)
    base = load(tmp_path)
    assert int(base.codecs["text"].start) == (2 if bos is None else bos)
    ids = torch.tensor([own.encode(TEXT).ids])
    assert (base.logits(TEXT) - reference(ids).logits[0]).abs().max() < 1e-5
    assert base.generate(TEXT, max_new_tokens=9, sampling=GREEDY) == piped(reference, own, TEXT)
    assert isinstance(base.generate("", max_new_tokens=3), str)
    assert base.embed(["", TEXT]).shape[0] == 2


def piped(reference: Any, own: Tokenizer, text: str, slots: int = 9) -> str:
    """What transformers says after a text, read with it."""
    ids = own.encode(text).ids
    full = reference.generate(torch.tensor([ids]), max_new_tokens=slots, do_sample=False)[0]
    return str(own.decode(full.tolist())[len(own.decode(ids)) :])


@torch.no_grad()
@pytest.mark.parametrize("after", [(), ("<|end|>",)])
def test_a_template_is_put_around_texts(after: Sequence[str], tmp_path: Path) -> None:
    own = around(words(["<unk>", "<s>", "<|end|>"]), ["<s>", "<s>"], after)
    reference = folder(llama, own, tmp_path, bos_token_id=5, eos_token_id=2)
    base = load(tmp_path)
    ids = torch.tensor([own.encode(TEXT).ids])
    states = reference.model(ids).last_hidden_state.mean(dim=1)[0].numpy()
    assert np.abs(base.embed([TEXT], layers=False)[0] - states).max() < 1e-5
    read = base.embed_tokens([TEXT], layers=False)[0]
    assert len(read) == len(TEXT.split())
    given = ids[:, : ids.shape[1] - len(after)]
    assert (base.logits(TEXT) - reference(given).logits[0]).abs().max() < 1e-5


def memorised(at: Path, own: Tokenizer, ids: list[int], **more: Any) -> Any:
    """A Llama that says these ids."""
    reference = folder(llama, own, at, **more)
    optimiser, full = torch.optim.AdamW(reference.parameters(), lr=1e-2), torch.tensor([ids])
    for _ in range(60):
        optimiser.zero_grad()
        reference(full, labels=full).loss.backward()
        optimiser.step()
    reference.eval().save_pretrained(at)
    return reference


def test_any_end_ends_and_special_tokens_stop(tmp_path: Path) -> None:
    """eos_token_id may name several, and generation_config.json more."""
    own = around(words(["<unk>", "<s>", "</s>", "<|eot|>", "<|head|>"]), ["<s>"])
    said = "the cell <|head|> binds to <|eot|> mouse </s>"
    ids = own.encode(said).ids
    reference = memorised(tmp_path, own, ids, bos_token_id=1, eos_token_id=[2])
    path = tmp_path / "generation_config.json"
    kept = json.loads(path.read_text())
    base = load(tmp_path)
    free = base.generate("the", max_new_tokens=20, sampling=GREEDY)
    assert free == " cell binds to mouse"
    for ends in ([2, 3], 3):
        path.write_text(json.dumps({**kept, "eos_token_id": ends}))
        base = load(tmp_path)
        assert base.generate("the", max_new_tokens=20, sampling=GREEDY) == " cell binds to"
    reference.generation_config.eos_token_id = [2, 3]
    assert piped(reference, own, "the", 20) == " cell binds to"
    stopped = [base.generate("the", max_new_tokens=20, sampling=GREEDY, stop=[s]) for s in STOPS]
    assert stopped == list(STOPS.values())
    assert base.generate_batch(
        ["the", "the cell"], max_new_tokens=20, sampling=GREEDY, stop=["<|head|>"]
    ) == [
        " cell",
        "",
    ]
    save(base, tmp_path / "again")
    assert load(tmp_path / "again").config == base.config


STOPS = {
    "<|head|>": " cell",
    "|head": " cell",
    "ell": " c",
    "binds to": " cell ",
    "to": " cell binds ",
}


def test_a_continuation_keeps_its_first_blank(tmp_path: Path) -> None:
    ids = {w: i for i, w in enumerate(["<unk>", "<s>", "</s>", "▁the", "▁quick", "▁fox", "▁"])}
    own = Tokenizer(models.BPE(ids, [], unk_token="<unk>", ignore_merges=True))
    own.pre_tokenizer, own.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    own.add_special_tokens(["<unk>", "<s>", "</s>"])
    memorised(tmp_path, around(own, ["<s>"]), [1, 3, 4, 5, 2], bos_token_id=1, eos_token_id=2)
    base = load(tmp_path)
    assert base.generate("the", max_new_tokens=9, sampling=GREEDY) == " quick fox"
    assert base.generate("the", max_new_tokens=9, sampling=GREEDY, stop=[" quick"]) == ""
    assert base.generate(max_new_tokens=9, sampling=GREEDY) == "the quick fox"


def unigram() -> Tokenizer:
    """As T5's: </s> is a piece of the model, the likeliest of all."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁the", -3.0)]
    letters = sorted(set("".join(WORDS) + "</s>[]MASKPEU|nd"))
    own = Tokenizer(models.Unigram([*pieces, *((c, -6.0) for c in letters)], unk_id=2))
    own.pre_tokenizer, own.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    own.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return own


def pairs() -> Tokenizer:
    """Special tokens among the words of the model, which are looked up before merging."""
    marks = ["</s>", "<mask>", "[MASK]"]
    listed = [*marks, *pre_tokenizers.ByteLevel.alphabet()]
    own = Tokenizer(models.BPE({w: i for i, w in enumerate(listed)}, [], ignore_merges=True))
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    own.decoder = decoders.ByteLevel()
    own.add_special_tokens([AddedToken(m, special=True, lstrip=True) for m in marks])
    return own


def codec_of(own: Tokenizer) -> TokensCodec:
    vocabulary = own.get_vocab_size()
    return TokensCodec(TokensConfig(discrete=DiscreteConfig(vocab_size=vocabulary)), own)


CODECS = {
    "words": codec_of(words(["<unk>", "<s>", "</s>"])),
    "pieces of words": codec_of(words(BERT, 0, "WordPiece")),
    "unigram": codec_of(unigram()),
    "pairs": codec_of(pairs()),
}
PARTS = st.sampled_from(
    ["the", " ", "cell", "</s>", "[MASK]", "<mask>", "<s>", "[SEP]", "<unk>", "\0"]
)


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=25)
@given(parts=st.lists(PARTS, max_size=6))
def test_a_record_is_data(name: str, parts: list[str]) -> None:
    """No special token comes of it, and it is given back where every character is known."""
    codec, text = CODECS[name], "".join(parts)
    assert codec.tokenizer is not None
    unknown = {codec.tokenizer.token_to_id(w) for w in ("<unk>", "[UNK]")}
    result = set(codec.encode(text).values.tolist()) - unknown
    assert not any(codec.is_special(i) for i in result)
    if name == "pairs":
        assert codec.decode(codec.encode(text).values, ()) == text
    expected = codec.tokenizer.encode(text, add_special_tokens=False).ids
    assert codec.encode_prompt(text).values.tolist() == expected


@pytest.mark.parametrize("model", ["pairs", "words", "unigram"])
def test_other_added_tokens_keep_their_ids(model: str) -> None:
    """As <tool_call> of Qwen, which comes after special tokens and is none."""
    own = {"pairs": pairs, "words": lambda: words(["<unk>"]), "unigram": unigram}[model]()
    own.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    own.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("  ", normalized=False)])
    codec, text = codec_of(own), "the <tool>  cell  <tool>"
    expected = own.encode(text, add_special_tokens=False).ids
    assert codec.encode(text).values.tolist() == expected
    assert own.token_to_id("<tool>") in expected
    for record in ("<|im_start|>", "<|im_end|>"):
        assert own.token_to_id(record) not in codec.encode(record).values


def test_what_has_no_position_and_no_row_is_named(tmp_path: Path) -> None:
    own = words(["<unk>", "<|end|>"])
    folder(gpt2, own, tmp_path, n_positions=16, bos_token_id=1, eos_token_id=1)
    base = load(tmp_path)
    assert base.max_tokens() == 16
    long = "the " * 20
    for read in (base.logits, lambda x: base.embed([x]), base.generate):
        with pytest.raises(DataError, match=r"20 tokens.*this base has positions for 16"):
            read(long)
    with pytest.raises(ConfigError, match=r"ask for at most --max-new-tokens 14$"):
        base.generate("the cell", max_new_tokens=15)
    assert base.generate("the cell", max_new_tokens=14, sampling=GREEDY)
    with pytest.raises(DataError, match=r"ids 0 to 12"):
        base.logits([3, 13])
    own.add_special_tokens(["<|pad|>"])
    own.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match=r"'<\|pad\|>' has the id 13"):
        load(tmp_path).generate("the <|pad|>", max_new_tokens=2)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"null", b"[" * 9999])
def test_a_tokenizer_that_cannot_be_read_is_named(content: bytes, tmp_path: Path) -> None:
    folder(llama, words(["<unk>"]), tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(DataError, match=r"tokenizer\.json is not a tokenizer"):
        load(tmp_path)


def test_an_id_that_no_vocabulary_has_is_named(tmp_path: Path) -> None:
    """The library would count up to it when it writes the vocabulary."""
    folder(llama, words(["<unk>"]), tmp_path)
    path = tmp_path / "tokenizer.json"
    tree = json.loads(path.read_text())
    tree["model"]["vocab"]["the"] = 10**9
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"tokenizer\.json .*the id 1000000000, and the largest"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_settings_that_cannot_be_read_are_named(name: str, tmp_path: Path) -> None:
    folder(llama, words(["<unk>"]), tmp_path)
    for content in (b"", b"[]", b"\xff", b"{"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            load(tmp_path)


def test_without_a_tokenizer_that_reads_text(tmp_path: Path) -> None:
    saved(llama, tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    base = load(tmp_path)
    for read in (base.generate, base.logits, lambda x: base.embed([x])):
        with pytest.raises(DataError, match=r"no tokenizer\.json"):
            read("the")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a \ud83d b", "record 0 cannot be read as text: character 3 is half of a pair"),
        (b"the", "got bytes"),
        (3, "got int"),
        ([0.5], "got list"),
        ([[1, 2], [3]], "got list"),
        ([-1], "ids 0 to"),
    ],
)
def test_what_is_no_prompt(prompt: Any, message: str, tmp_path: Path) -> None:
    folder(llama, words(["<unk>"]), tmp_path)
    base = load(tmp_path)
    for read in (base.generate, base.logits):
        with pytest.raises(DataError, match=message):
            read(prompt)
    assert isinstance(base.generate("the \0 cell", max_new_tokens=2), str)


def test_numbers_that_cannot_be_drawn_from() -> None:
    logits = torch.tensor([[1.0, 3.0, -math.inf]])
    for temperature in (1e-40, 5e-324, 1e-12):
        assert SamplingConfig(temperature=temperature).build()(logits).tolist() == [1]
    for broken in (math.nan, math.inf):
        for temperature in (0.0, 1.0):
            choose = SamplingConfig(temperature=temperature).build()
            with pytest.raises(DataError, match="not finite"):
                choose(torch.tensor([[1.0, broken]]))


def test_an_empty_stop_is_refused(tmp_path: Path) -> None:
    folder(llama, words(["<unk>"]), tmp_path)
    for stop in ([""], ["a", ""], "ab"):
        with pytest.raises(ConfigError, match="stop"):
            load(tmp_path).generate("the", stop=stop)


def test_many_positions_are_not_made_before_they_are_reached(tmp_path: Path) -> None:
    folder(llama, words(["<unk>"]), tmp_path, eos_token_id=list(range(12)))
    assert load(tmp_path).generate("the", max_new_tokens=10**12) == ""


def test_ids_that_no_table_has(tmp_path: Path) -> None:
    """Of a template, and of what ends a text."""
    folder(llama, around(words(["<unk>", "<s>"]), ["<s>"]), tmp_path)
    path = tmp_path / "generation_config.json"
    for ends in ("x", [1.5], {"a": 1}, [True]):
        path.write_text(json.dumps({"eos_token_id": ends}))
        with pytest.raises(DataError, match=r"generation_config\.json: eos_token_id"):
            load(tmp_path)
    path.write_text(json.dumps({"eos_token_id": [-1, 2]}))
    assert load(tmp_path).config.modalities["text"].ends == (2,)  # type: ignore[attr-defined]
    own = words([f"<{i}>" for i in range(90)])
    around(own, ["<80>"]).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="does not belong to these weights"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["vocab.json", "tokenizer.json"])
def test_what_a_decoder_begins_with_is_in_its_config(name: str, tmp_path: Path) -> None:
    """A Whisper's tokenizer calls the end of a text its bos; T5's puts nothing first."""
    marks = ["<unk>", "<|end|>", "</s>", "<|start|>", "<|en|>"]
    own = words(marks)
    if name == "tokenizer.json":
        around(own, ["<|start|>", "<|en|>"], ["<|end|>"])
    for build in (whisper, t5):
        at = tmp_path / build.__name__
        saved(lambda build=build: build(decoder_start_token_id=3, eos_token_id=1), at)
        named = {"bos_token": "<|end|>", "eos_token": "<|end|>"}
        (at / "special_tokens_map.json").write_text(json.dumps(named))
        if name == "tokenizer.json":
            own.save(str(at / name))
        else:
            (at / name).write_text(json.dumps(own.get_vocab()))
        codec: Any = load(at).codecs["text"]
        assert (int(codec.start), int(codec.end)) == (3, 1)
        if name == "tokenizer.json":
            assert (codec.before.tolist(), codec.after.tolist()) == ([3, 4], [1])


FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
ODD: list[Any] = [None, True, -1, 10**12, 1.5, "", "x", "(a+)+$", [], [None], {}, {"content": 3}]


def mutate(rng: Random, tree: Any) -> Any:
    """One value somewhere replaced, or left out."""
    if not isinstance(tree, dict | list) or not tree or rng.random() < 0.1:
        return rng.choice(ODD)
    key = rng.choice([*tree]) if isinstance(tree, dict) else rng.randrange(len(tree))
    result = tree.copy()
    if rng.random() < 0.1:
        del result[key]
    else:
        result[key] = mutate(rng, result[key])
    return result


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_tokenizers(count: int, tmp_path: Path) -> None:
    """Each is read, or named in an error for users: none ends in another one."""
    rng, own = Random(0), pairs()
    folder(llama, around(own, ["</s>"]), tmp_path)
    hf.PreTrainedTokenizerFast(
        tokenizer_object=own, eos_token="</s>", mask_token="<mask>"
    ).save_pretrained(tmp_path)
    (tmp_path / FILES[2]).write_text(json.dumps({"eos_token": "</s>", "mask_token": "<mask>"}))
    full = {name: (tmp_path / name).read_text() for name in FILES}
    for _ in range(count):
        name = rng.choice(FILES)
        (tmp_path / name).write_text(json.dumps(mutate(rng, json.loads(full[name]))))
        with suppress(BroadbaseError):
            base = load(tmp_path)
            base.generate("the </s>", max_new_tokens=1, stop=["x"])
            base.embed(["the </s> cell"])
        (tmp_path / name).write_text(full[name])
