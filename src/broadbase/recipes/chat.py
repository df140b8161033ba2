"""Chat: a base of text learns to answer, from conversations of which only the answers count."""

from __future__ import annotations

from broadbase.core.sources import SourceConfig
from broadbase.data.detect import named
from broadbase.data.sources.chats import ChatsConfig
from broadbase.modalities.chat import ChatConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.objectives.causal import CausalConfig
from broadbase.recipes import dial
from broadbase.recipes.recipe import Recipe
from broadbase.run.config import DataConfig, MixedSource, RunConfig

NAME = "text"  # of the modality, which a base of text has under the same name
LENGTH = 256  # tokens of a row; a longer conversation is cut off


def build(depth: int, data: str | None) -> RunConfig:
    """Read JSON lines of `messages` (Ouyang et al. 2022, 3.5), best with `--init-from` a base."""
    path = dial.require_data(data, "chat")
    source: SourceConfig = named(path) or ChatsConfig(path=path)
    return RunConfig(
        recipe="chat",
        depth=depth,
        model=ModelConfig(
            modalities={NAME: ChatConfig()},
            towers={"main": dial.backbone(depth, input_norm=RMSNormConfig())},
        ),
        objective=CausalConfig(),
        data=DataConfig(
            sources={
                NAME: MixedSource(
                    source=source,
                    modality=NAME,
                    batch_size=dial.rows(depth, LENGTH),
                    sequence_length=LENGTH,
                )
            }
        ),
        optim=dial.optim(depth, normed=True),
        train=dial.horizon(depth),
    )


RECIPE = Recipe("chat", "conversations, of which only the answers count", build)
