"""Video: clips with nine tenths of their tubes hidden (Tong et al. 2022, VideoMAE)."""

from __future__ import annotations

from broadbase.data.detect import detect
from broadbase.data.sources.video import VideoFilesConfig
from broadbase.modalities.video import VideoConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.connector import LinearConfig
from broadbase.nn.spaces.regression import RegressionConfig
from broadbase.objectives.mae import MaskedAutoencoderConfig
from broadbase.objectives.masks import TubeMaskConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sources_for
from broadbase.run.config import DataConfig, RunConfig


def build(depth: int, data: str | None) -> RunConfig:
    """Build an encoder of the visible tenth (`depth` layers) and a decoder of all (half of it).

    The targets are pixels as they are, not brought to mean 0 and variance 1 as in the paper, so
    that hidden ones can be filled in.
    """
    video, path = VideoConfig(), dial.require_data(data, "video")
    pixels = RegressionConfig(normalise=False)
    sources = detect(path, VideoFilesConfig(path=path))
    return RunConfig(
        recipe="video",
        depth=depth,
        model=ModelConfig(
            modalities={"video": video},
            heads={"pixels": pixels},
            towers={"encoder": dial.backbone(depth), "decoder": dial.backbone(max(1, depth // 2))},
            tower_of={"pixels": "decoder"},
            connectors=(LinearConfig(source="encoder", target="decoder"),),
        ),
        objective=MaskedAutoencoderConfig(mask_ratio=0.9, masks=TubeMaskConfig()),
        data=DataConfig(sources=sources_for("video", sources, depth, video.record_length)),
        optim=dial.optim(depth),
        train=dial.horizon(depth),
    )


RECIPE = Recipe("video", "clips as tubelets, hidden tubes from the visible tenth", build)
