"""The same inputs through transformers' model and through ours: how far apart they are.

Legend: B rows, N places.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from broadbase.core.errors import ConfigError
from broadbase.core.optional import optional
from broadbase.core.view import Output, Read, Segment, Stream, View, positions
from broadbase.model.base import Base
from broadbase.weights.folder import load

BAR = 1e-4
ROWS, PLACES = 3, 48


@torch.inference_mode()
def differences(folder: Path) -> list[dict[str, Any]]:
    """For inputs without and with padding: what is compared, and the largest relative difference.

    Needs transformers. Both compute in fp32; no code of the folder runs.
    """
    base, reference = load(folder), _reference(folder)
    base.model.float()
    rows = []
    for kind, real_BN in _masks():
        what, ours, theirs = _both(base, reference, real_BN)
        worst = (ours - theirs).abs().max() / theirs.abs().max().clamp(min=1.0)
        rows.append({"inputs": kind, "compared": what, "difference": float(worst), "bar": BAR})
    return rows


def _reference(folder: Path) -> Any:
    config = json.loads((folder / "config.json").read_text())
    hf = optional("transformers", "transformers", "--check")
    name = next(iter(config.get("architectures") or ["AutoModel"]))
    if not hasattr(hf, name):
        raise ConfigError(f"this transformers has no {name}, which config.json names")
    how = {"dtype": torch.float32, "local_files_only": True, "trust_remote_code": False}
    return getattr(hf, name).from_pretrained(folder, **how).eval()


def _masks() -> Iterator[tuple[str, Tensor]]:
    place = torch.arange(PLACES)
    yield "whole", (place < PLACES).expand(ROWS, -1)
    yield "padded", place < torch.tensor([[PLACES], [PLACES * 2 // 3], [PLACES // 3]])


def _both(base: Base, reference: Any, real_BN: Tensor) -> tuple[str, Tensor, Tensor]:
    """What is compared, ours and theirs, at the real places."""
    space, paired = next(iter(base.codecs)), "decoder" in base.config.towers
    pad = getattr(reference.config, "pad_token_id", None) or 0
    ids_BN = torch.randint(
        5,
        reference.config.get_text_config().vocab_size,
        real_BN.shape,
        generator=torch.manual_seed(0),
    ).masked_fill(~real_BN, pad)
    given = _segment(space, ids_BN, real_BN)
    more = {"decoder_input_ids": ids_BN[:, : PLACES // 3]} if paired else {}
    found = reference(ids_BN, attention_mask=real_BN.long(), **more)
    theirs = next((found[k] for k in ("prediction_logits", "logits") if k in found), None)
    reads = () if theirs is None else (Read(space, "logits"),)
    if not paired:
        streams: tuple[Stream, ...] = (
            Stream("main", base.tower(space), (given,), base.sees(space), reads=reads),
        )
    else:
        real_BN = torch.ones_like(more["decoder_input_ids"], dtype=torch.bool)
        told = _segment(space, more["decoder_input_ids"], real_BN)
        streams = (
            Stream("encoder", "encoder", (given,)),
            Stream("main", "decoder", (told,), "causal", "encoder", reads),
        )
    output: Output = base.model(View(streams))
    if theirs is None:
        states = output.streams["main"].x
        return "hidden states", states[real_BN], found.last_hidden_state[real_BN]
    fed = any(c.target == base.tower(space) for c in base.config.connectors)
    what = "logits of text alone" if fed else "logits"
    return what, output.predictions["logits"][real_BN], theirs[real_BN]


def _segment(space: str, ids_BN: Tensor, real_BN: Tensor) -> Segment:
    B, N = ids_BN.shape
    order_BN, document_BN = torch.arange(N).expand(B, -1), torch.where(real_BN, 0, -1)
    return Segment(space, ids_BN, positions((N,)).expand(B, -1, -1), order_BN, document_BN)
