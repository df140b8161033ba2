"""The structure of a model without its numbers, which takes no memory and little time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


@contextmanager
def structure_only() -> Iterator[None]:
    """Build modules on the meta device, and do not initialise them.

    Random numbers on the meta device would cost the import of PyTorch's compiler, two seconds.
    """
    with torch.device("meta"), _Uninitialised():
        yield


class _Uninitialised(TorchFunctionMode):
    """Leaves out the functions of `torch.nn.init`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        values = dict(kwargs or {})
        if getattr(func, "__module__", None) == nn.init.__name__:
            return values["tensor"] if "tensor" in values else args[0]
        return func(*args, **values)
