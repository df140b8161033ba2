"""A digest of a base: equal for bases that make the same of every record."""

from __future__ import annotations

import hashlib
import json

import torch

from broadbase.inference.base import Base
from broadbase.weights.folder import codec_files


def base_digest(base: Base) -> str:
    """Compute the SHA-256, in hexadecimal, over the numbers of a base, its codecs and its usage.

    It does not depend on the device, nor on the folder that the base was read from.
    """
    total = hashlib.sha256()
    for name, tensor in base.model.state_dict().items():
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    for name, codec in base.codecs.items():
        for file, content in sorted(codec_files(codec).items()):
            total.update(f"{name} {file} {hashlib.sha256(content).hexdigest()}".encode())
    total.update(json.dumps((base.config.tree(), base.usage.tree()), sort_keys=True).encode())
    return total.hexdigest()
