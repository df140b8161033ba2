"""CTranslate2 containers: the same model as the published folder; a hostile one is an error."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from broadbase.core.errors import BroadbaseError, DataError
from broadbase.core.view import Predict, Segment, Stream, View, positions
from broadbase.inference.base import Base
from broadbase.weights.ctranslate2 import read_container
from broadbase.weights.folder import load, save
from broadbase.weights.parity import differences
from support.containers import container, text, variable, whisper_variables, write_container
from support.references import saved, whisper

EMBEDDINGS = "decoder/embeddings/weight"
KEYS = "encoder/layer_0/self_attention/linear_0"
GIGABYTES = 2**31


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    return saved(whisper, tmp_path_factory.mktemp("published"))


@pytest.fixture
def folder(reference: Any, tmp_path: Path) -> Path:
    write_container(tmp_path / "container", whisper_variables(reference))
    return tmp_path / "container"


def states(base: Base) -> dict[str, Tensor]:
    return dict(base.model.state_dict())


@pytest.mark.parametrize("version", [4, 5, 6])
def test_it_is_the_published_model(reference: Any, tmp_path: Path, version: int) -> None:
    """Every tensor; those that a Whisper is published in are the floats of the container."""
    reference.save_pretrained(tmp_path / "published")
    variables = whisper_variables(reference, torch.float32)
    write_container(tmp_path / "container", variables, version=version)
    base, published = load(tmp_path / "container"), load(tmp_path / "published")
    assert base.config.towers == published.config.towers
    ours, peer = states(base), states(published)
    assert ours.keys() == peer.keys()
    assert all(torch.equal(tensor, peer[name]) for name, tensor in ours.items())
    codec = base.codecs["text"]
    assert (int(codec.start), int(codec.end)) == (3, 2)  # type: ignore[arg-type]


def test_halves_are_read_as_floats_and_compute_the_same(reference: Any, folder: Path) -> None:
    base = load(folder)
    assert {tensor.dtype for tensor in states(base).values()} == {torch.float32}
    halved = hf.WhisperForConditionalGeneration(reference.config).eval()
    halved.load_state_dict({k: v.half().float() for k, v in reference.state_dict().items()})
    features = torch.randn(2, 8, 24, generator=torch.manual_seed(2))
    ids = torch.randint(5, 90, (2, 7), generator=torch.manual_seed(3))
    with torch.no_grad():
        expected = halved(input_features=features, decoder_input_ids=ids).logits
        values = features.transpose(1, 2).reshape(2, 12, 16)
        heard = Segment("audio", values, positions((12,)).expand(2, -1, -1))
        said = Segment("text", ids, positions((7,)).expand(2, -1, -1))
        streams = (
            Stream("encoder", "encoder", (heard,)),
            Stream("main", "decoder", (said,), "causal", "encoder", (Predict("text", "logits"),)),
        )
        actual = base.model(View(streams)).predictions["logits"]
    assert torch.allclose(actual, expected, atol=1e-4)


def test_it_is_written_as_a_folder_that_transformers_opens(folder: Path, tmp_path: Path) -> None:
    save(load(folder), tmp_path / "out")
    opened, info = hf.WhisperForConditionalGeneration.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert opened.config.decoder_start_token_id == 3
    again = states(load(tmp_path / "out"))
    assert all(torch.equal(again[name], tensor) for name, tensor in states(load(folder)).items())
    assert all(row["equal"] for row in differences(folder) if row["compared"] == "logits")


def test_a_pickle_of_that_name_is_still_refused(folder: Path) -> None:
    torch.save({"a": torch.ones(1)}, folder / "model.bin")
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(DataError, match=r"model\.bin can run code"):
        load(folder)


def without(name: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda variables: variables.pop(name)


def having(name: str, value: Any) -> Callable[[dict[str, Tensor]], Any]:
    return lambda variables: variables.update({name: torch.as_tensor(value)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(EMBEDDINGS), "decoder/projection/weight.*which it lacks"),
        (without("encoder/conv1/bias"), r"lacks tensors: model\.encoder\.conv1\.bias"),
        (without(f"{KEYS}/weight"), r"lacks tensors: .*q_proj\.weight.*k_proj.*v_proj"),
        (having(f"{KEYS}/bias", torch.ones(144)), "shifts keys"),
        (having(f"{KEYS}/weight", torch.ones(143, 48)), "143 rows are not 3 parts"),
        (having(f"{KEYS}/weight", torch.ones(144, 47)), r"is \[48, 47\], and by config.json"),
        (having(f"{KEYS}/weight", torch.ones(144, 48, dtype=torch.int8)), "is quantized"),
        (having("encoder/layer_9999/ffn/linear_0/bias", torch.ones(4)), "lacks tensors|layers is"),
        (having("encoder/linear/weight", torch.ones(4, 4)), "nothing here uses 'encoder/linear"),
        (having("decoder/pre_norm", torch.tensor(0, dtype=torch.int8)), "pre_norm is 0"),
        (having("decoder/activation", torch.tensor(0, dtype=torch.int8)), "activation is 0"),
        (having("encoder/num_heads", torch.tensor(0, dtype=torch.int8)), "attention_heads"),
        (having("encoder/conv1/bias", torch.full((48,), torch.nan)), "not finite"),
    ],
)  # fmt: skip
def test_other_variables_are_named(
    reference: Any, tmp_path: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    variables = whisper_variables(reference)
    change(variables)
    write_container(tmp_path / "m", variables)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "m")


def test_another_kind_of_model_is_named(folder: Path) -> None:
    (folder / "model.bin").write_bytes(container({}, spec="TransformerSpec"))
    with pytest.raises(BroadbaseError, match=r"'TransformerSpec' is not supported.*WhisperSpec"):
        load(folder)


@pytest.mark.parametrize("tokens", [None, "{}", '{"added_tokens": 5}', '{"added_tokens": [5]}'])
def test_the_ids_of_start_and_end_must_be_there(folder: Path, tokens: str | None) -> None:
    (folder / "tokenizer.json").unlink()
    if tokens is not None:
        (folder / "tokenizer.json").write_text(tokens)
    with pytest.raises(DataError, match=r"tokenizer\.json.*copy that of the published model"):
        load(folder)


ONE = variable("a", torch.ones(3))
ALIAS = struct.pack("<I", 1) + text("a") + text("a")
HEAD = container({})[:-8]  # without its counts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (container({}, version=3), "its version is 3, not 4 to 6"),
        (HEAD, "ends too soon"),
        (HEAD + struct.pack("<I", 2**32 - 1), "has 4294967295 entries"),
        (HEAD + struct.pack("<I", 2) + ONE + ONE, "holds 'a' twice"),
        (HEAD + struct.pack("<I", 1) + ONE + ALIAS, "holds 'a' twice"),
        (container({"a": torch.ones(3)}, {f"b{i}": "a" for i in range(99)}), "repeat more than"),
        (HEAD + struct.pack("<IHs", 1, 1, b"a"), "no end"),
        (HEAD + struct.pack("<IH", 1, 65535) + b"a\0", "no end"),
        (HEAD + struct.pack("<IH2sB", 1, 2, b"a\0", 200), "200 axes"),
        (HEAD + struct.pack("<IH2sBIBI", 1, 2, b"a\0", 1, GIGABYTES, 1, GIGABYTES), "too soon"),
        (HEAD + struct.pack("<IH2sB8IBI", 1, 2, b"a\0", 8, *[2**32 - 1] * 8, 0, 4), "has 4 bytes"),
        (HEAD + struct.pack("<IH2sBIBI", 1, 2, b"a\0", 1, 1, 77, 4), "type 77, which is none"),
    ],
)  # fmt: skip
def test_no_length_is_believed(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"model\.bin cannot be read: .*{message}"):
        read_container(file)


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Some bytes changed, cut or put in, most often where the lengths are."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(changed) if rng.random() < 0.5 else min(2000, len(changed)))
        match rng.choice(("byte", "word", "cut", "put")):
            case "byte":
                changed[at] = rng.randrange(256)
            case "word":
                changed[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 2**31, 2**32 - 1)))
            case "cut":
                del changed[at : at + rng.choice((1, 4, 1000, len(changed)))]
            case "put":
                changed[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
        if not changed:
            return b""
    return bytes(changed)


@pytest.mark.parametrize("tries", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_damaged_container_is_a_model_or_an_error(folder: Path, tries: int) -> None:
    rng, content = random.Random(tries), (folder / "model.bin").read_bytes()
    messages: list[str] = []
    for _ in range(tries):
        (folder / "model.bin").write_bytes(damaged(rng, content))
        try:
            load(folder)
        except BroadbaseError as error:
            messages.append(str(error))
    assert len(messages) > tries // 4
    assert all("model.bin" in message or folder.name in message for message in messages)
    shutil.rmtree(folder)
