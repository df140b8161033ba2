"""What a base can do with a record of each of its modalities, by its settings alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from broadbase.core.contracts import ObjectiveConfig
from broadbase.core.spaces import Embedder
from broadbase.core.usage import Usage
from broadbase.model.model import Model, ModelConfig
from broadbase.model.structure import structure_only
from broadbase.nn.spaces.discrete import Discrete, NoHead
from broadbase.nn.spaces.joint import JointConfig
from broadbase.objectives.mae import MaskedAutoencoderConfig
from broadbase.objectives.masked import MaskedConfig
from broadbase.objectives.mixture import MixtureConfig

PICTURES = {"image", "published_image", "codes"}  # kinds of records that are shown as pictures
SOUNDS = {"audio", "mel", "spectrum"}


class Ability(StrEnum):
    """What a base does with a record; the value is what people read."""

    CONTINUE = "continues it"
    ANSWER = "answers it"
    TRANSCRIBE = "transcribes it"
    DRAW = "draws a picture of it"
    FILL = "fills gaps in it"
    RECONSTRUCT = "reconstructs masked parts of it"
    RETRIEVE = "ranks names or texts for it"
    PROPERTIES = "predicts its properties"
    EMBED = "finds records near it"


def abilities(
    config: ModelConfig, usage: Usage, objective: ObjectiveConfig | None
) -> dict[str, tuple[Ability, ...]]:
    """Return what a base can do with a record of each modality that it reads.

    `objective` is that of its run; without one, an encoder whose ids can be masked fills gaps.
    """
    with structure_only():
        model = config.build()
    readable = [name for name in config.modalities if isinstance(model.space(name), Embedder)]
    return {
        name: tuple(
            dict.fromkeys([*_of_space(config, model, usage, objective, name), Ability.EMBED])
        )
        for name in readable
    }


def parameters(config: ModelConfig) -> int:
    """Return the number of parameters of a model, without building its numbers."""
    with structure_only():
        return sum(p.numel() for p in config.build().parameters())


def joint_heads(config: ModelConfig) -> dict[str, str]:
    """Return the modality that each joint head reads, by head: the first of its tower."""
    first = next(iter(config.towers))
    by_tower = {config.tower_of.get(name, first): name for name in reversed(config.modalities)}
    heads = (name for name, head in config.heads.items() if isinstance(head, JointConfig))
    towers = {name: config.tower_of.get(name, first) for name in heads}
    return {name: by_tower[tower] for name, tower in towers.items() if tower in by_tower}


def _of_space(
    config: ModelConfig,
    model: Model,
    usage: Usage,
    objective: ObjectiveConfig | None,
    name: str,
) -> Iterator[Ability]:
    kind, space = config.modalities[name], model.space(name)
    tower = config.tower_of.get(name, next(iter(config.towers)))
    pattern = usage.attention_of.get(tower, usage.attention)
    predicts = isinstance(space, Discrete) and not isinstance(space.head, NoHead)
    if usage.conditioning is not None:
        yield from _conditioned(config, usage, name)
    elif usage.generator is not None and pattern == usage.generator.attention and predicts:
        yield Ability.CONTINUE
    joints = joint_heads(config)
    if len(joints) > 1 and name in joints.values():
        yield Ability.RETRIEVE
    objectives = _parts(objective)
    written = kind.name not in PICTURES | SOUNDS | {"cell"}  # a gap is written into a text
    maskable = predicts and pattern == "full" and written
    trained = any(isinstance(each, MaskedConfig) for each in objectives)
    plain = objective is None and usage.generator is None and not joints
    if maskable and (trained or plain):
        yield Ability.FILL
    if any(isinstance(o, MaskedAutoencoderConfig) for o in objectives) and kind.name in PICTURES:
        yield Ability.RECONSTRUCT
    if any(other.describes == kind.name for other in config.modalities.values()):
        yield Ability.PROPERTIES


def _conditioned(config: ModelConfig, usage: Usage, name: str) -> Iterator[Ability]:
    assert usage.conditioning is not None
    source, target = usage.conditioning.source, usage.conditioning.target
    if name != (source or name):
        return
    made, given = config.modalities[target or name].name, config.modalities[name].name
    if made in PICTURES:
        yield Ability.DRAW
    else:
        yield Ability.TRANSCRIBE if given in SOUNDS else Ability.ANSWER


def _parts(objective: ObjectiveConfig | None) -> tuple[ObjectiveConfig, ...]:
    """Return an objective, or those that it is a mixture of."""
    if isinstance(objective, MixtureConfig):
        return tuple(each.objective for each in objective.components.values())
    return () if objective is None else (objective,)


Abilities = Mapping[str, tuple[Ability, ...]]
