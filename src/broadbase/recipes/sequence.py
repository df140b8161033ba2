"""What the recipes of sequences share: files, a Llama, next-token prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from broadbase.core.contracts import ModalityConfig, ObjectiveConfig, TowerConfig
from broadbase.core.sources import SourceConfig
from broadbase.data.detect import detect
from broadbase.data.samples.catalog import sample
from broadbase.data.sources.files import FilesConfig
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.modalities.ids import IdsConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.objectives.causal import CausalConfig
from broadbase.recipes import dial
from broadbase.run.config import DataConfig, MixedSource, RunConfig

LENGTH = 256  # tokens per row


def sequence_run(
    name: str,
    modality: ModalityConfig,
    depth: int,
    data: str | None,
    *,
    plain: Callable[[str], FilesConfig] | None = None,
    also: Sequence[Callable[[str], FilesConfig]] = (),
    recipe: str | None = None,
    objective: ObjectiveConfig | None = None,
    towers: Mapping[str, TowerConfig] | None = None,
    length: int = LENGTH,
    normed: bool = False,
) -> RunConfig:
    """Build a run on a folder: its `plain` files, `also` others, and tables with a text field.

    Causal modelling by one tower, where nothing else is said; its embedding is `normed`, or not.
    """
    path = dial.require_data(data, recipe or name)
    files = plain(path) if plain else TextFilesConfig(path=path)
    more = [each(path) for each in also]
    norm = RMSNormConfig() if normed else None
    towers = dict(towers or {"main": dial.backbone(depth, input_norm=norm)})
    return RunConfig(
        recipe=recipe or name,
        depth=depth,
        model=ModelConfig(modalities={name: modality}, towers=towers),
        objective=objective or CausalConfig(),
        data=DataConfig(sources=sources_for(name, detect(path, files, *more), depth, length)),
        optim=dial.optim(depth, normed=normed),
        train=dial.horizon(depth),
    )


def modality_of(data: str | None, default: type[IdsConfig], **settings: int) -> IdsConfig:
    """Return the modality of a sample set, where its values are ids; otherwise the default."""
    modality: type = default
    if data and data.startswith("sample:"):
        modality = ModalityConfig.named(sample(data.removeprefix("sample:")).modality)
    return (modality if issubclass(modality, IdsConfig) else default)(**settings)


def sources_for(
    name: str, sources: Sequence[SourceConfig], depth: int, length: int
) -> dict[str, MixedSource]:
    """Mix several sources of one modality, each with rows by its share of the bytes."""
    rows = dial.rows(depth, length)
    if len(sources) == 1:
        parts = [rows]
    else:
        sizes = [sum(part.size for part in source.parts()) for source in sources]
        parts = [max(1, round(rows * size / max(1, sum(sizes)))) for size in sizes]
    return {
        name if i == 0 else f"{name}_{source.name}": MixedSource(
            source=source, modality=name, batch_size=rows, sequence_length=length
        )
        for i, (source, rows) in enumerate(zip(sources, parts, strict=True))
    }
