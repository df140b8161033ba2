"""Draw: pictures in a tokenizer's codes, one after the other after a class or a name."""

from __future__ import annotations

from broadbase.core.sources import SourceConfig
from broadbase.data.detect import in_folders, pairs
from broadbase.data.sources.files import ImageFilesConfig
from broadbase.data.sources.labels import LabelsConfig
from broadbase.modalities.bytes import BytesConfig
from broadbase.modalities.codes import CodesConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.objectives.conditional import PrefixConditionalConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import DataConfig, MixedSource, RunConfig

SOURCE, TARGET = "words", "codes"
BYTES, CODES = 24, 65  # of a row: a name; the start and 8 x 8 codes, as recipe vq makes them


def build(depth: int, data: str | None) -> RunConfig:
    """Put the words first, then the codes of the picture, row by row (Ramesh et al. 2021, 2).

    The codes are those of a run of recipe vq: `--set model.modalities.codes.tokenizer=RUN`.
    """
    pair = _pair(dial.require_data(data, "draw"))
    rows = dial.rows(depth, BYTES + CODES)
    tower = dial.backbone(depth, qk_norm=RMSNormConfig(), input_norm=RMSNormConfig())
    return RunConfig(
        recipe="draw",
        depth=depth,
        model=ModelConfig(
            modalities={TARGET: CodesConfig(), "bytes": BytesConfig()}, towers={"main": tower}
        ),
        objective=PrefixConditionalConfig(source=SOURCE, target=TARGET),
        data=DataConfig(
            sources={
                SOURCE: MixedSource(
                    source=pair["text"],
                    modality="bytes",
                    batch_size=rows,
                    sequence_length=BYTES,
                    pair_group="named",
                ),
                TARGET: MixedSource(
                    source=pair["image"],
                    modality=TARGET,
                    batch_size=rows,
                    sequence_length=CODES,
                    pair_group="named",
                ),
            },
        ),
        optim=dial.optim(depth),
        train=dial.horizon(depth),
    )


def _pair(data: str) -> dict[str, SourceConfig]:
    """Return pictures and words: of folders with the class as their name, otherwise of pairs."""
    if data.startswith("sample:"):
        return pairs(data)
    pictures = ImageFilesConfig(path=data, labels="folder")
    if pictures.root.exists() and not in_folders(pictures):
        return pairs(data)
    return {"image": pictures, "text": LabelsConfig(source=pictures)}


RECIPE = Recipe("draw", "pictures in codes of a vq run, drawn after a class or a name", build)
