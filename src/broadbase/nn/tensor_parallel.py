"""What a module says of itself so that several ranks can share it (tensor parallel).

`split` of a module names its parts and how each is cut (Shoeybi et al. 2019, 3): a linear map by
its outputs or by its inputs; a norm of heads is whole where some of the heads are. What has no
`split` is whole on every rank. A module with `all_heads` cannot be where some of the heads are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Split = Literal["outputs", "inputs", "heads"]
Splits = Mapping[str, Split]
