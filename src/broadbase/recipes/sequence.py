"""What the recipes of text, code and bytes share: files, a Llama, next-place prediction."""

from __future__ import annotations

from pathlib import Path

from broadbase.core.contracts import ModalityConfig
from broadbase.data.sources import TextFilesConfig
from broadbase.model.model import ModelConfig
from broadbase.objectives.causal import CausalConfig
from broadbase.recipes import dial
from broadbase.run import DataConfig, MixedSource, RunConfig

LENGTH = 256  # places a row


def sequence_run(
    name: str, modality: ModalityConfig, depth: int, data: Path | None, pattern: str
) -> RunConfig:
    """Causal modelling of the files that match `pattern` in a folder."""
    source = MixedSource(
        source=TextFilesConfig(path=str(dial.needed(data, name)), pattern=pattern),
        modality=name,
        rows=dial.rows(depth, LENGTH),
        length=LENGTH,
    )
    return RunConfig(
        recipe=name,
        depth=depth,
        model=ModelConfig(modalities={name: modality}, towers={"main": dial.backbone(depth)}),
        objective=CausalConfig(),
        data=DataConfig(sources={name: source}),
        optim=dial.optim(depth),
        train=dial.horizon(depth),
    )
