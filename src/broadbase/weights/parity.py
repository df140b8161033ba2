"""The same inputs through transformers' model and through a base: how far their outputs differ.

Legend: B rows, N tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from broadbase.core.view import Output, Predict, Segment, Stream, View, positions
from broadbase.inference.base import Base
from broadbase.inference.documents import prompts
from broadbase.modalities.published_image import PublishedImageCodec, PublishedImageConfig
from broadbase.modalities.spectrum import SpectrumConfig
from broadbase.weights import text_parity
from broadbase.weights.field_types import errors_of
from broadbase.weights.folder import load
from broadbase.weights.reference import offline, reference_of

Compared = tuple[str, str, Tensor, Tensor]  # inputs, what is compared, actual, expected
BAR = 1e-4
ROWS, TOKENS = 3, 48


@torch.no_grad()  # references keep tensors that a training may use later
def differences(folder: Path) -> list[dict[str, Any]]:
    """Return what is compared for which inputs, and the largest relative difference.

    Texts are given to the tokenizers of both, ids without and with padding, pictures and sounds as
    noise. Needs transformers. Both compute in fp32; no code of the folder runs.
    """
    base = load(folder)
    with offline(), errors_of(f"{folder} cannot be compared with transformers"):
        reference = reference_of(base, folder)
        base.model.float()
        both = chain(_compared(base, reference), text_parity.compared(base, reference, folder))
        return [_row(*each) for each in both]


def _row(inputs: str, what: str, actual: Tensor, expected: Tensor) -> dict[str, Any]:
    worst = (actual - expected).abs().max() / expected.abs().max().clamp(min=1.0)
    return {
        "inputs": inputs,
        "compared": what,
        "difference": float(worst),
        "bar": BAR,
        "equal": bool(worst < BAR),  # and not where it is no number
    }


def _compared(base: Base, reference: Any) -> Iterator[Compared]:
    modalities = base.config.modalities
    space = next((name for name, codec in base.codecs.items() if codec.placeholder_ids), "")
    if space:
        yield _interleaved(base, reference, space)
        yield "unpadded", *_both(base, reference, next(_masks())[1])
    elif "image_joint" in base.config.heads:
        yield from _met(base, reference)
    elif isinstance(modalities.get("audio"), SpectrumConfig):
        yield _heard(base, reference)
    elif isinstance(modalities.get("image"), PublishedImageConfig):
        yield _seen(base, reference)
    else:
        for kind, real_BN in _masks():
            yield kind, *_both(base, reference, real_BN)


def _masks() -> Iterator[tuple[str, Tensor]]:
    index = torch.arange(TOKENS)
    yield "unpadded", (index < TOKENS).expand(ROWS, -1)
    yield "padded", index < torch.tensor([[TOKENS], [TOKENS * 2 // 3], [TOKENS // 3]])


def _both(base: Base, reference: Any, real_BN: Tensor) -> tuple[str, Tensor, Tensor]:
    """Return what is compared, and both answers at the tokens that are no padding."""
    space, paired = next(iter(base.codecs)), "decoder" in base.config.towers
    pad = getattr(reference.config, "pad_token_id", None) or 0
    ids_BN = _ids(reference, real_BN.shape).masked_fill(~real_BN, pad)
    given = _segment(space, ids_BN, real_BN)
    more = {"decoder_input_ids": ids_BN[:, : TOKENS // 3]} if paired else {}
    outputs = reference(ids_BN, attention_mask=real_BN.long(), **more)
    expected = next((outputs[k] for k in ("prediction_logits", "logits") if k in outputs), None)
    reads = () if expected is None else (Predict(space, "logits"),)
    if not paired:
        streams: tuple[Stream, ...] = (
            Stream(
                "main", base.tower(space), (given,), base.attention_pattern(space), readouts=reads
            ),
        )
    else:
        real_BN = torch.ones_like(more["decoder_input_ids"], dtype=torch.bool)
        target = _segment(space, more["decoder_input_ids"], real_BN)
        streams = (
            Stream("encoder", "encoder", (given,)),
            Stream("main", "decoder", (target,), "causal", "encoder", reads),
        )
    output: Output = base.model(View(streams))
    if expected is None:
        states = output.streams["main"].x
        return "hidden states", states[real_BN], outputs.last_hidden_state[real_BN]
    fed = any(c.target == base.tower(space) for c in base.config.connectors)
    what = "logits of text alone" if fed else "logits"
    return what, output.predictions["logits"][real_BN], expected[real_BN]


def _ids(reference: Any, shape: tuple[int, ...]) -> Tensor:
    config = reference.config.get_text_config()
    ids = torch.randint(5, config.vocab_size, shape, generator=torch.manual_seed(0))
    hidden = getattr(config, "mask_token_id", None)
    return ids if hidden is None else ids.masked_fill(ids == hidden, 5)


def _pictures(base: Base) -> tuple[list[Any], Tensor]:
    """Return noise, as the codec takes it and as references do: [B,3,H,W], normalised."""
    config, codec = base.config.modalities["image"], base.codecs["image"]
    assert isinstance(config, PublishedImageConfig)
    assert isinstance(codec, PublishedImageCodec)
    size = (ROWS, config.size, config.size, config.channels)
    pixels = torch.randn(size, generator=torch.manual_seed(0), dtype=torch.float64).numpy()
    raws = [each * codec.deviation + codec.mean for each in pixels]
    return raws, torch.from_numpy(pixels).permute(0, 3, 1, 2).float()


def _seen(base: Base, reference: Any) -> Compared:
    """Compare what the head predicts of pictures, or the states of an encoder without one."""
    raws, pixels = _pictures(base)
    given = prompts("image", base.codecs["image"], raws)
    space = next((name for name in ("label", "codes") if name in base.config.modalities), None)
    reads = () if space is None else (Predict(space, "predicted"),)
    tower = base.tower("image")
    output: Output = base.model(View((Stream("main", tower, (given,), readouts=reads),)))
    if space == "label":  # read at the start
        return "noise", "logits", output.predictions["predicted"][:, 0], reference(pixels).logits
    if space == "codes":  # of all tokens but the start
        return "noise", "logits", output.predictions["predicted"][:, 1:], reference(pixels).logits
    encoder, more = getattr(reference, reference.base_model_prefix, reference), {}
    if hasattr(reference.config, "mask_ratio"):  # all patches are seen, in their order
        reference.config.mask_ratio = 0.0
        more["noise"] = torch.arange(given.position.shape[1] - 1).float().expand(ROWS, -1)
    expected = encoder(pixels, **more).last_hidden_state
    registers = getattr(reference.config, "num_register_tokens", 0)
    expected = torch.cat([expected[:, :1], expected[:, 1 + registers :]], dim=1)
    return "noise", "hidden states", output.streams["main"].x, expected


def _interleaved(base: Base, reference: Any, space: str) -> Compared:
    """Compare the logits at every token of text, a picture and text again."""
    codec: Any = base.codecs[space]
    ids_N = _ids(reference, (1, TOKENS))[0]
    ids_N[TOKENS // 3] = identity = codec.placeholder_ids["image"]
    raws, pixels = _pictures(base)
    actual = base.logits(ids_N, attachments=raws[:1], modality=space)
    held = torch.full((len(actual) - TOKENS,), identity)  # with the one that is in the text
    start = torch.tensor([int(codec.start)])
    prompt = torch.cat([start, ids_N[: TOKENS // 3], held, ids_N[1 + TOKENS // 3 :]])
    expected = reference(prompt[None], pixel_values=pixels[:1]).logits[0]
    return "noise in a text", "logits", actual, expected


def _met(base: Base, reference: Any) -> Iterator[Compared]:
    """Compare the vectors of pictures and of texts in the joint Space, of length 1."""
    raws, pixels = _pictures(base)
    given = prompts("image", base.codecs["image"], raws)
    text = reference.config.text_config
    length = min(TOKENS, text.max_position_embeddings)
    ids_BN = torch.randint(5, text.vocab_size - 5, (ROWS, length), generator=torch.manual_seed(0))
    end = base.codecs["text"].end
    if end is not None and int(end) < text.vocab_size:
        ids_BN[:, -1] = int(end)  # where a text is read
    vectors = reference(input_ids=ids_BN, pixel_values=pixels)
    real = torch.ones(ids_BN.shape, dtype=torch.bool)
    sides = {
        "image": (given, vectors.image_embeds),
        "text": (_segment("text", ids_BN, real), vectors.text_embeds),
    }
    for side, (segment, expected) in sides.items():
        read = Predict(f"{side}_joint", "predicted", pooled=True)
        stream = Stream("main", base.tower(side), (segment,), readouts=(read,))
        vector = base.model(View((stream,))).predictions["predicted"][:, 0, :-1]
        kind = "noise" if side == "image" else "unpadded"
        yield kind, f"{side} vectors", F.normalize(vector, dim=-1), expected


def _heard(base: Base, reference: Any) -> Compared:
    """Compare the logits of what is written of sounds."""
    spectrum = base.config.modalities["audio"]
    assert isinstance(spectrum, SpectrumConfig)
    size = (ROWS, spectrum.mels, 2 * spectrum.max_length)
    features = torch.randn(size, generator=torch.manual_seed(0))
    values = features.transpose(1, 2).reshape(ROWS, spectrum.max_length, -1)
    where = positions((spectrum.max_length,)).expand(ROWS, -1, -1)
    vocabulary = reference.config.vocab_size
    ids_BN = torch.randint(5, vocabulary, (ROWS, TOKENS // 3), generator=torch.manual_seed(0))
    target = _segment("text", ids_BN, torch.ones(ids_BN.shape, dtype=torch.bool))
    streams = (
        Stream("encoder", "encoder", (Segment("audio", values, where),)),
        Stream("main", "decoder", (target,), "causal", "encoder", (Predict("text", "logits"),)),
    )
    expected = reference(input_features=features, decoder_input_ids=ids_BN).logits
    output: Output = base.model(View(streams))
    return "noise", "logits", output.predictions["logits"], expected


def _segment(space: str, ids_BN: Tensor, real_BN: Tensor) -> Segment:
    B, N = ids_BN.shape
    order_BN, document_BN = torch.arange(N).expand(B, -1), torch.where(real_BN, 0, -1)
    return Segment(space, ids_BN, positions((N,)).expand(B, -1, -1), order_BN, document_BN)
