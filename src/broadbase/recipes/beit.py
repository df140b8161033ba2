"""BEiT: hidden blocks of patches, predicted as a tokenizer's codes (Bao et al. 2022)."""

from __future__ import annotations

from broadbase.modalities.codes import CodesConfig
from broadbase.objectives.masked import MaskedConfig
from broadbase.objectives.masks import BlockMaskConfig
from broadbase.recipes import dial, image
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import RunConfig

CODES = "codes"


def build(depth: int, data: str | None) -> RunConfig:
    """Hide 40 % of the patches of the image recipe, and predict each as one of 512 codes.

    The codes are those of a run of recipe vq: `--set model.modalities.codes.tokenizer=RUN`.
    """
    config = image.build(depth, data)
    sources = {name: mixed.replace(pair_group=name) for name, mixed in config.data.sources.items()}
    codes = {
        name.replace("image", CODES, 1): mixed.replace(modality=CODES)
        for name, mixed in sources.items()
    }
    targets = dict(zip(sources, codes, strict=True))
    model = config.model.replace(
        modalities={**config.model.modalities, CODES: CodesConfig()},
        towers={"main": dial.backbone(depth)},
    )
    return config.replace(
        recipe="beit",
        model=model,
        objective=MaskedConfig(mask_ratio=0.4, masks=BlockMaskConfig(), targets_from=targets),
        data=config.data.replace(sources={**sources, **codes}),
    )


RECIPE = Recipe("beit", "pictures, hidden patches as codes of a vq run", build)
