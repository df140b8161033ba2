"""What this machine does fast, measured once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from mmap import mmap
from pathlib import Path

import torch
from torch import nn

from broadbase.core.errors import ConfigError
from broadbase.core.files import write_json
from broadbase.core.paths import cache_folder
from broadbase.nn.norm import RMSNorm


@dataclass(frozen=True)
class Speeds:
    """Seconds on this CPU, the best of several in turns: of a layer's forward and backward, and of
    filling 64 MiB."""

    torch: float  # fp32, by the library that PyTorch takes
    onednn: float  # fp32 in oneDNN; where it would round more, as `torch`
    bf16: float  # under autocast
    fresh: float  # memory that the system has just given
    kept: float  # the same memory again

    @property
    def fp32(self) -> float:
        """Return the speed of fp32 in the better library."""
        return min(self.torch, self.onednn)

    def worth(self) -> dict[str, str]:
        """Say what each choice changes."""
        return {
            "precision": f"bf16 {self.fp32 / self.bf16:.1f} times as fast as fp32",
            "matmul": f"oneDNN {self.torch / self.onednn:.1f} times as fast as PyTorch's choice",
            "allocator": f"reused memory fills {self.fresh / self.kept:.1f} times as fast as new",
        }


def speeds(*, again: bool = False) -> Speeds:
    """Return the speeds that this machine was measured to have, or `again` measure them now."""
    path = (
        cache_folder() / "machine" / f"{hashlib.sha256(_machine().encode()).hexdigest()[:16]}.json"
    )
    if not again:
        with suppress(OSError, ValueError, TypeError):
            return Speeds(**json.loads(path.read_text()))
    measured = _measured()
    with suppress(OSError, ConfigError):  # where it cannot be kept it is measured each time
        write_json(path, asdict(measured))
    return measured


def use_onednn(use: bool = True) -> bool:
    """Let oneDNN multiply fp32 matrices, if it is as exact; return whether it does.

    On AMD's CPUs the library that PyTorch takes (MKL) uses half of the vector unit. PyTorch
    calls oneDNN only where products "may" be of bf16, which it makes use of on CPUs with AMX alone.
    """
    torch.set_float32_matmul_precision("medium" if use else "highest")
    if use and not _exact():
        torch.set_float32_matmul_precision("highest")
    return torch.get_float32_matmul_precision() == "medium"


def _exact() -> bool:
    """Return whether a product of fp32 is rounded as one."""
    a, b = (torch.linspace(0, 1, 256**2).sin().view(256, 256) + shift for shift in (0.1, 0.2))
    return torch.allclose(a @ b, (a.double() @ b.double()).float(), rtol=1e-5, atol=1e-5)


def _measured() -> Speeds:
    layer = nn.Sequential(
        nn.Linear(256, 1024), nn.SiLU(), nn.Linear(1024, 256), RMSNorm(256, eps=1e-5)
    )
    best = {"torch": math.inf, "onednn": math.inf, "bf16": math.inf}
    before = torch.get_float32_matmul_precision()
    for _ in range(8):  # in turn, so that a busy moment of the machine hits all
        for way in best:
            use_onednn(way == "onednn")
            with torch.autocast("cpu", torch.bfloat16, enabled=way == "bf16"):
                best[way] = min(best[way], _seconds(layer))
    torch.set_float32_matmul_precision(before)
    fresh, kept = map(min, zip(*(_filled() for _ in range(3)), strict=True))
    return Speeds(**best, fresh=fresh, kept=kept)


def _seconds(layer: nn.Module) -> float:
    """Measure a forward and a backward as training does them: casts count."""
    x = torch.ones(1024, 256)
    start = time.perf_counter()
    layer(x).float().sum().backward()
    return time.perf_counter() - start


def _filled() -> tuple[float, float]:
    """Measure the time to fill 64 MiB of new memory, and to fill them again."""
    memory = torch.frombuffer(mmap(-1, 2**26), dtype=torch.float32)
    times = [time.perf_counter()]
    for _ in range(2):
        memory.fill_(1.0)
        times.append(time.perf_counter())
    return times[1] - times[0], times[2] - times[1]


def _machine() -> str:
    """Describe what decides the speeds."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else [platform.processor()]
    kind = [line for line in lines if line.startswith(("model", "flags"))][:3] or lines[:1]
    return "\n".join((*kind, platform.machine(), torch.__version__, str(torch.get_num_threads())))
