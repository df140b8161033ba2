"""Out: which published family a model is one of, by the mappings read backwards.

`write` of a family takes the sizes of a model for a config.json, and `read` of that gives the
family's model of these sizes. A base that equals it leaves under the family's names, exactly; how
another differs is said slot by slot; and `like` makes a model so from the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from broadbase.core.config import hint
from broadbase.core.contracts import ModalityConfig
from broadbase.core.errors import ConfigError
from broadbase.core.spaces import HeadConfig
from broadbase.inference.base import Base
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.published_image import PublishedImageConfig
from broadbase.modalities.tokens import TokensConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.spaces.discrete import NoHeadConfig
from broadbase.nn.spaces.joint import JointConfig
from broadbase.weights.fold_norm import folded
from broadbase.weights.mapping import ImportedModel, imported, known_families
from broadbase.weights.sizes import Ends, ids

HEAD = ("lm_head.weight",)  # a name that says that there is a head
FREE = {"mean", "deviation", "resample", "crops"}  # of a modality: nothing that a Space computes
HEADS = {"head", "bias", "tie_embeddings"}  # of a Space: what only predictions are made with


@dataclass(frozen=True)
class FamilyMatch:
    """A family's model of some sizes, beside the model that has them."""

    kind: str
    config: Mapping[str, Any]  # its config.json
    source: ImportedModel
    differences: tuple[str, ...]  # none: the model is one of the family


def families() -> list[str]:
    """The model types that a model trained here can be of."""
    return [kind for kind, module in known_families().items() if hasattr(module, "write")]


def match(model: ModelConfig, kind: str, said: Ends) -> FamilyMatch | None:
    """The family's model of these sizes; None where it has no such towers and Spaces."""
    module = known_families()[kind]
    config = module.write(model, said)
    if config is None:
        return None
    config = {"model_type": kind, "dtype": "float32", **config}
    source = imported(config, getattr(module, "HEAD", HEAD))
    theirs, names = source.config, _names(source.config, model)
    if (
        theirs.towers.keys() != model.towers.keys()
        or [c.name for c in theirs.connectors] != [c.name for c in model.connectors]
        or names.keys() != model.modalities.keys()
        or not theirs.heads.keys() <= model.heads.keys()
    ):  # records that the family does not take are no part of it; heads may be
        return None
    mine = _computed(model, {name: name for name in names}, names, theirs)
    found = _differences("model", mine, _computed(theirs, names, names, theirs))
    return FamilyMatch(kind, config, source, tuple(found))


def matches(base: Base) -> list[FamilyMatch]:
    """The families that have a base's towers, Spaces and pattern, the nearest first."""
    said = _said(base)
    found = [match(base.config, kind, said) for kind in families()]
    near = [each for each in found if each and each.source.pattern == base.usage.attention]
    return sorted(near, key=lambda each: len(each.differences))


def as_family(model: ModelConfig, kind: str, pattern: str, length: int) -> ModelConfig:
    """The same recipe's model as one of a family: of its sizes, with the family's slots.

    Records stay what they are; `length` is the most places that one has. ConfigError where the
    family has no such towers and Spaces.
    """
    if kind not in families():
        raise ConfigError(f"--family {kind!r} is no family{hint(kind, families())}")
    every = {each: match(model, each, Ends(length=length)) for each in families()}
    fitting = {k: each for k, each in every.items() if each and each.source.pattern == pattern}
    if kind not in fitting:
        raise ConfigError(
            f"--family {kind}: this recipe has towers {', '.join(model.towers)} ({pattern}) and"
            f" Spaces {', '.join(model.modalities)}, and that family others; it can be like:"
            f" {', '.join(fitting) or 'none'}"
        )
    found = fitting[kind]
    theirs, names = found.source.config, _names(found.source.config, model)
    spaces = {m: _spoken(model.modalities[m], theirs.modalities[t]) for m, t in names.items()}
    heads = {h: _alike(model.heads[h], head) for h, head in theirs.heads.items()}
    names |= {name: name for name in heads}
    beside = {name: tower for name, tower in model.tower_of.items() if name not in names}
    return ModelConfig(
        modalities={**model.modalities, **spaces},
        heads={**model.heads, **heads},
        towers=theirs.towers,
        tower_of={
            **beside,
            **{m: theirs.tower_of[t] for m, t in names.items() if t in theirs.tower_of},
        },
        connectors=theirs.connectors,
    )


def explain_mismatch(base: Base) -> str:
    """Why a base leaves as no family, setting by setting of the nearest, and what to train."""
    near = matches(folded(base) or base)
    if not near:
        return (
            f"no published family has towers {', '.join(base.config.towers)}"
            f" ({base.usage.attention}) and Spaces {', '.join(base.config.modalities)}; export --to"
            " safetensors, or open the model folder with broadbase.load"
        )
    first, *others = near
    further = ", ".join(f"{each.kind} ({len(each.differences)} settings)" for each in others)
    return (
        f"this is no {first.kind}, the nearest family: {'; '.join(first.differences)}. Pretrain"
        f" with --family {first.kind} to have a base that leaves as one"
        + (f"; farther off: {further}" if further else "")
    )


def _names(theirs: ModelConfig, mine: ModelConfig) -> dict[str, str]:
    """Their name of each of our modalities that they have: the first may be called otherwise."""
    first, *others = theirs.modalities
    return {next(iter(mine.modalities)): first, **{name: name for name in others}}


def _spoken(mine: ModalityConfig, theirs: ModalityConfig) -> ModalityConfig:
    """Their Space, of our records."""
    if _settings(mine, theirs) == _settings(theirs, theirs):
        return mine
    if isinstance(theirs, TokensConfig):
        return theirs.model_copy(update={"by": getattr(mine, "by", None) or mine})
    if isinstance(theirs, PublishedImageConfig) and isinstance(mine, ImageConfig):
        return theirs.model_copy(update={"crops": mine.crops})
    return theirs


def _alike(mine: HeadConfig, theirs: HeadConfig) -> HeadConfig:
    """Their head; ours where it computes the same."""
    return mine if _settings(mine, theirs) == _settings(theirs, theirs) else theirs


def _computed(
    model: ModelConfig, own: Mapping[str, str], names: Mapping[str, str], theirs: ModelConfig
) -> dict[str, Any]:
    """All settings that say what a family's part of a model computes, Spaces by our names.

    `own` are the names of these Spaces in `model`, and `names` in `theirs`.
    """
    first, tree = next(iter(model.towers)), model.tree()
    spaces = {
        m: _settings(model.modalities[own[m]], theirs.modalities[t]) for m, t in names.items()
    }
    heads = {name: _settings(model.heads[name], head) for name, head in theirs.heads.items()}
    called = {m: own[m] for m in names} | {name: name for name in heads}
    return {
        "modalities": spaces,
        "heads": heads,
        "towers": tree["towers"],
        "tower_of": {m: model.tower_of.get(name, first) for m, name in called.items()},
        "connectors": tree["connectors"],
    }


def _settings(
    modality: ModalityConfig | HeadConfig, theirs: ModalityConfig | HeadConfig
) -> dict[str, Any]:
    """Of a Space; of one that only reads there, what it reads by."""
    if (discrete := ids(modality)) is not None:
        told = ids(theirs)
        bare = told is not None and isinstance(told.head, NoHeadConfig)
        return {k: v for k, v in discrete.tree().items() if not (bare and k in HEADS)}
    tree = {k: v for k, v in modality.tree().items() if k not in FREE}
    if isinstance(modality, JointConfig):  # numbers to begin with
        tree |= {k: None if tree[k] is None else "learned" for k in ("scale", "bias")}
    return tree


def _differences(path: str, mine: Any, theirs: Any) -> Iterator[str]:
    """Each setting that differs; of a slot with another choice in it, the choice alone."""
    if mine == theirs:
        return
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        if mine.get("name") == theirs.get("name"):
            for key in {**mine, **theirs}:
                yield from _differences(f"{path}.{key}", mine.get(key), theirs.get(key))
            return
    elif isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        for i, pair in enumerate(zip(mine, theirs, strict=True)):
            yield from _differences(f"{path}.{i}", *pair)
        return
    yield f"{path} is {_brief(mine)} and would be {_brief(theirs)}"


def _brief(value: Any) -> str:
    """A setting in a word: a slot by its choice."""
    if isinstance(value, Mapping):
        return str(value.get("name", dict(value)))
    return "none" if value is None else str(value).lower()


def _said(base: Base) -> Ends:
    """By the codec of ids that the base has, where it has one."""
    for codec in base.codecs.values():
        if codec.start.ndim == 0:
            end = codec.end
            return Ends(int(codec.start), None if end is None else int(end))
    return Ends()
