"""What this machine is good at: every `auto` becomes a fixed value before step 1."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils.checkpoint import checkpoint

from broadbase.core.config import Config
from broadbase.core.errors import ConfigError
from broadbase.core.paths import cache_folder
from broadbase.core.preload import preloaded
from broadbase.train.speeds import speeds, use_onednn

KEPT = ((-3, 2**31 - 1), (-1, 2**31 - 1))  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of glibc
Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["auto", "on", "off"]
Matmul = Literal["auto", "torch", "onednn"]


class MachineConfig(Config):
    """Where and how the numbers are crunched; `auto` is probed once and then kept."""

    device: str = "auto"
    """The device: cpu, cuda or mps; auto: the best that is there."""
    precision: Precision = "auto"
    """The type of matrix products: bf16 or fp32; auto: bf16 where it was measured to be faster."""
    matmul: Matmul = "auto"
    """Who multiplies fp32 matrices on a CPU, torch or onednn; auto: the one that was measured to be
    faster."""
    compile: Compile = "auto"
    """Whether blocks are compiled; auto: on GPUs, as on CPUs a short run never gains what compiling
    costs."""
    activation_checkpointing: bool = False
    """Whether a block keeps only its input, and computes the rest again in the backward pass: less
    memory, more time."""
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    """The neighbouring ranks that share the matrices of each layer; 1: none do."""
    timeout: Annotated[float, Field(gt=0)] = 600.0
    """The seconds that ranks wait for one another before the run stops."""

    def resolve(self) -> MachineConfig:
        """Decide every `auto`; ConfigError where the machine lacks what the settings need."""
        device = find_device(self.device)
        precision, matmul, compiled = self.precision, self.matmul, self.compile
        if precision == "auto":
            precision = "bf16" if _bf16_is_faster(device) else "fp32"
        if matmul == "auto":
            faster = device.type == "cpu" and speeds().onednn < 0.9 * speeds().torch
            matmul = "onednn" if faster else "torch"
        if compiled == "auto":
            # On CPUs a compilation costs half a minute: short runs never earn it back.
            compiled = "on" if device.type == "cuda" and has_compiler() else "off"
        if compiled == "on" and not has_compiler():
            raise ConfigError(
                "machine.compile=on, but there is no C++ compiler; install one (g++) or set"
                " machine.compile=off"
            )
        decided = {"device": device.type, "precision": precision, "matmul": matmul}
        return self.replace(**decided, compile=compiled)

    def prepare(self) -> None:
        """Set up this process's libraries; decide an `auto` first."""
        keep_memory()
        use_onednn(self.resolve().matmul == "onednn")

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of every forward."""
        if self.precision == "bf16":
            return torch.autocast(torch.device(self.device).type, torch.bfloat16)
        return nullcontext()

    def policy(self) -> MixedPrecisionPolicy:
        """Return the types that ranks exchange: weights as autocast uses them, gradients in fp32.

        Autocast alone casts inputs: positions stay exact.
        """
        if self.precision == "bf16":
            return MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        return MixedPrecisionPolicy()

    def compiled(self, model: nn.Module) -> None:
        """Compile every block by itself, if that is on: those of one kind once.

        Nothing around them is compiled (regional compilation, as torchtitan does it).
        """
        if self.compile == "on":
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
            for block in blocks(model):
                block.compile(dynamic=False)

    def checkpoint_activations(self, model: nn.Module) -> None:
        """Let blocks forget what they can compute again, if that is on (Chen et al. 2016)."""
        if self.activation_checkpointing:
            for block in blocks(model):
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def keep_memory() -> bool:
    """Let the C library keep what is freed for the next step: fresh pages cost more than filling
    them. False where it has no such setting (not glibc)."""
    try:
        tell = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(tell(parameter, value) for parameter, value in KEPT)


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the layers of all towers."""
    named = model.named_modules()
    return [module for name, module in named if name.split(".")[-2:-1] == ["blocks"]]


def find_device(name: str) -> torch.device:
    """Find the named device, or with `auto` the best there is; of several, this rank's own."""
    if name == "auto":
        name = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else name
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used: {reason}; try --device auto") from None
    return device


def has_compiler() -> bool:
    """Return whether torch.compile can work here."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))


def _bf16_is_faster(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    return speeds().bf16 < 0.7 * speeds().fp32  # a small gain is not worth the digits


def environment() -> dict[str, Any]:
    """Describe what this program runs on."""
    packages = ("broadbase", "torch", "numpy", "grain", "tokenizers", "safetensors")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "preloaded": preloaded,
        "speeds": asdict(speeds()),
        "git": _git(),
        **{name: version(name) for name in packages},
    }


def _git() -> str | None:
    """Return the commit of the current folder; None where there is no git, or no repository."""
    words = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
