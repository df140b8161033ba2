"""Speech: sound to text, an encoder that hears and a decoder that writes (Whisper's shape)."""

from __future__ import annotations

from broadbase.core.errors import ConfigError
from broadbase.core.sources import SourceConfig
from broadbase.data.detect import pairs
from broadbase.data.samples.catalog import sample
from broadbase.modalities.audio import AudioConfig
from broadbase.modalities.bytes import BytesConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.objectives.conditional import Seq2SeqConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import DataConfig, MixedSource, RunConfig

SECONDS, BYTES = 128, 64  # tokens per row: 5 seconds of sound, and what is said in them


def build(depth: int, data: str | None) -> RunConfig:
    """Read a folder of sounds, each with a text of the same name (hello.wav, hello.txt).

    Both towers have `depth` layers (Radford et al. 2023, 2.2); text is bytes, as a vocabulary
    cannot be learned from little of it.
    """
    sounds, words = _pair(dial.require_data(data, "speech"))
    towers = {
        name: dial.backbone(depth, qk_norm=RMSNormConfig(), cross=name == "decoder")
        for name in ("encoder", "decoder")
    }
    rows = 2 * dial.rows(depth, SECONDS)
    return RunConfig(
        recipe="speech",
        depth=depth,
        model=ModelConfig(
            modalities={"audio": AudioConfig(), "bytes": BytesConfig()},
            towers=towers,
            tower_of={"bytes": "decoder"},
        ),
        objective=Seq2SeqConfig(source="sounds", target="words"),
        data=DataConfig(
            sources={
                "sounds": MixedSource(
                    source=sounds,
                    modality="audio",
                    batch_size=rows,
                    sequence_length=SECONDS,
                    pair_group="said",
                ),
                "words": MixedSource(
                    source=words,
                    modality="bytes",
                    batch_size=rows,
                    sequence_length=BYTES,
                    pair_group="said",
                ),
            },
            holdout=0.1,
        ),
        optim=dial.optim(depth),
        train=dial.horizon(depth),
    )


def _pair(data: str) -> tuple[SourceConfig, SourceConfig]:
    if not data.startswith("sample:"):
        files = pairs(data, ("audio", "text"))
        return files["audio"], files["text"]
    chosen = sample(data.removeprefix("sample:"))
    if "bytes" not in chosen.options:
        raise ConfigError(f"{data} has no words to learn; sample:klettres has")
    return chosen.source, chosen.options["bytes"]


RECIPE = Recipe("speech", "sounds and what is said in them: text from speech", build)
