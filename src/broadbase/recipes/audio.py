"""Audio: sound with most of its frames hidden (Huang et al. 2022, Audio-MAE)."""

from __future__ import annotations

from broadbase.data.detect import detect
from broadbase.data.sources.sound import AudioFilesConfig
from broadbase.modalities.audio import AudioConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.connector import LinearConfig
from broadbase.nn.positions import SinusoidConfig
from broadbase.nn.spaces.regression import RegressionConfig
from broadbase.objectives.mae import MaskedAutoencoderConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.recipes.sequence import sources_for
from broadbase.run.config import DataConfig, RunConfig

LENGTH = 128  # tokens per row: 5 seconds


def build(depth: int, data: str | None) -> RunConfig:
    """Build an encoder of the visible tokens (`depth` layers) and a decoder of all (half of it).

    Tokens are strips of 40 ms and all mels, so that sounds of any length pack into rows.
    """
    audio, path = AudioConfig(), dial.require_data(data, "audio")
    towers = {
        name: dial.backbone(layers).replace(positions=SinusoidConfig())
        for name, layers in (("encoder", depth), ("decoder", max(1, depth // 2)))
    }
    frames = RegressionConfig(normalise=False)
    return RunConfig(
        recipe="audio",
        depth=depth,
        model=ModelConfig(
            modalities={"audio": audio},
            heads={"frames": frames},
            towers=towers,
            tower_of={"frames": "decoder"},
            connectors=(LinearConfig(source="encoder", target="decoder"),),
        ),
        objective=MaskedAutoencoderConfig(target="frames"),
        data=DataConfig(
            sources=sources_for("audio", detect(path, AudioFilesConfig(path=path)), depth, LENGTH)
        ),
        optim=dial.optim(depth),
        train=dial.horizon(depth),
    )


RECIPE = Recipe("audio", "sound, hidden log-mel frames from the visible quarter", build)
