"""Which published family a model belongs to.

`write` of a family makes a config.json of the sizes of a model, and `read` of that gives the
family's model of these sizes. A base that equals it is exported under the family's names, exactly;
the differences of another are listed slot by slot; and `as_family` makes a model that will match.
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
from broadbase.weights.mapping import ImportedModel, families_by_type, imported
from broadbase.weights.sizes import Ends, ids

HEAD = ("lm_head.weight",)  # a tensor's name that shows that there is a head
FREE = {
    "mean",
    "deviation",
    "resample",
    "crops",
}  # settings of a modality that its codec alone uses
HEADS = {"head", "bias", "tie_embeddings"}  # settings that only predictions depend on


@dataclass(frozen=True)
class FamilyMatch:
    """A family's model of the sizes of another model, and how that one differs."""

    kind: str
    config: Mapping[str, Any]  # its config.json
    source: ImportedModel
    differences: tuple[str, ...]  # empty: the model belongs to the family


def families() -> list[str]:
    """Return the model types that a model trained here can have."""
    return [kind for kind, module in families_by_type().items() if hasattr(module, "write")]


def match(model: ModelConfig, kind: str, ends: Ends) -> FamilyMatch | None:
    """Return the family's model of these sizes; None if its towers or modalities differ."""
    module = families_by_type()[kind]
    config = module.write(model, ends)
    if config is None:
        return None
    config = {"model_type": kind, "dtype": "float32", **config}
    source = imported(config, getattr(module, "HEAD", HEAD))
    published, names = source.config, _names(source.config, model)
    if (
        published.towers.keys() != model.towers.keys()
        or [c.name for c in published.connectors] != [c.name for c in model.connectors]
        or names.keys() != model.modalities.keys()
        or not published.heads.keys() <= model.heads.keys()
    ):  # the family takes all modalities of the model, but may lack some of its heads
        return None
    settings = _computed(model, {name: name for name in names}, names, published)
    differences = _differences("model", settings, _computed(published, names, names, published))
    return FamilyMatch(kind, config, source, tuple(differences))


def matches(base: Base) -> list[FamilyMatch]:
    """Return the families with a base's towers, modalities and attention, the nearest first."""
    ends = _ends(base)
    candidates = [match(base.config, kind, ends) for kind in families()]
    near = [m for m in candidates if m and m.source.pattern == base.usage.attention]
    return sorted(near, key=lambda candidate: len(candidate.differences))


def as_family(model: ModelConfig, kind: str, pattern: str, length: int) -> ModelConfig:
    """Return a model of the same sizes with the slots of a family.

    Codecs stay as they are; `length` is the most tokens of a row. ConfigError if the family has
    other towers or modalities.
    """
    if kind not in families():
        raise ConfigError(f"--family {kind!r} is no family{hint(kind, families())}")
    candidates = {name: match(model, name, Ends(length=length)) for name in families()}
    fitting = {k: m for k, m in candidates.items() if m and m.source.pattern == pattern}
    if kind not in fitting:
        raise ConfigError(
            f"--family {kind}: this recipe has towers {', '.join(model.towers)} ({pattern}) and"
            f" modalities {', '.join(model.modalities)}, and the family has others; it can be like:"
            f" {', '.join(fitting) or 'none'}"
        )
    published = fitting[kind].source.config
    names = _names(published, model)
    spaces = {m: _of_codec(model.modalities[m], published.modalities[t]) for m, t in names.items()}
    heads = {h: _head(model.heads[h], head) for h, head in published.heads.items()}
    names |= {name: name for name in heads}
    others = {name: tower for name, tower in model.tower_of.items() if name not in names}
    return ModelConfig(
        modalities={**model.modalities, **spaces},
        heads={**model.heads, **heads},
        towers=published.towers,
        tower_of={
            **others,
            **{m: published.tower_of[t] for m, t in names.items() if t in published.tower_of},
        },
        connectors=published.connectors,
    )


def explain_mismatch(base: Base) -> str:
    """Return why a base belongs to no family, by settings of the nearest, and what to train."""
    near = matches(folded(base) or base)
    if not near:
        return (
            f"no published family has towers {', '.join(base.config.towers)}"
            f" ({base.usage.attention}) and modalities {', '.join(base.config.modalities)};"
            " export --to safetensors, or open the model folder with broadbase.load"
        )
    first, *others = near
    further = ", ".join(f"{m.kind} ({len(m.differences)} settings)" for m in others)
    return (
        f"this is no {first.kind}, the nearest family: {'; '.join(first.differences)}. Pretrain"
        f" with --family {first.kind} for a base that can be exported as one"
        + (f"; further families: {further}" if further else "")
    )


def _names(published: ModelConfig, model: ModelConfig) -> dict[str, str]:
    """Return the published name of each modality of a model; that of the first may differ."""
    first, *others = published.modalities
    return {next(iter(model.modalities)): first, **{name: name for name in others}}


def _of_codec(modality: ModalityConfig, published: ModalityConfig) -> ModalityConfig:
    """Return the published modality with the codec of another; that one if it computes the same."""
    if _settings(modality, published) == _settings(published, published):
        return modality
    if isinstance(published, TokensConfig):
        return published.replace(by=modality.codec_modality)
    if isinstance(published, PublishedImageConfig) and isinstance(modality, ImageConfig):
        return published.replace(crops=modality.crops)
    return published


def _head(head: HeadConfig, published: HeadConfig) -> HeadConfig:
    """Return the published head; the other one if it computes the same."""
    same = _settings(head, published) == _settings(published, published)
    return head if same else published


def _computed(
    model: ModelConfig,
    model_names: Mapping[str, str],
    names: Mapping[str, str],
    published: ModelConfig,
) -> dict[str, Any]:
    """Return the settings that define what a model computes, for the modules of a family.

    Keys are modalities; `model_names` are their names in `model`, `names` those in `published`.
    """
    first, tree = next(iter(model.towers)), model.tree()
    spaces = {
        m: _settings(model.modalities[model_names[m]], published.modalities[t])
        for m, t in names.items()
    }
    heads = {name: _settings(model.heads[name], head) for name, head in published.heads.items()}
    called = {m: model_names[m] for m in names} | {name: name for name in heads}
    return {
        "modalities": spaces,
        "heads": heads,
        "towers": tree["towers"],
        "tower_of": {m: model.tower_of.get(name, first) for m, name in called.items()},
        "connectors": tree["connectors"],
    }


def _settings(
    modality: ModalityConfig | HeadConfig, published: ModalityConfig | HeadConfig
) -> dict[str, Any]:
    """Return the settings of what a modality or head computes.

    If the published one has no head, the settings of the head are left out.
    """
    if (discrete := ids(modality)) is not None:
        other = ids(published)
        bare = other is not None and isinstance(other.head, NoHeadConfig)
        return {k: v for k, v in discrete.tree().items() if not (bare and k in HEADS)}
    tree = {k: v for k, v in modality.tree().items() if k not in FREE}
    if isinstance(modality, JointConfig):  # initial values
        tree |= {k: None if tree[k] is None else "learned" for k in ("scale", "bias")}
    return tree


def _differences(path: str, model: Any, published: Any) -> Iterator[str]:
    """Yield each setting that differs; for a slot with another choice, the choice alone."""
    if model == published:
        return
    if isinstance(model, Mapping) and isinstance(published, Mapping):
        if model.get("name") == published.get("name"):
            for key in {**model, **published}:
                yield from _differences(f"{path}.{key}", model.get(key), published.get(key))
            return
    elif isinstance(model, list) and isinstance(published, list) and len(model) == len(published):
        for i, pair in enumerate(zip(model, published, strict=True)):
            yield from _differences(f"{path}.{i}", *pair)
        return
    yield f"{path} is {_brief(model)} and would be {_brief(published)}"


def _brief(value: Any) -> str:
    """Return a setting as one word: a slot by its choice."""
    if isinstance(value, Mapping):
        return str(value.get("name", dict(value)))
    return "none" if value is None else str(value).lower()


def _ends(base: Base) -> Ends:
    """Return the start and end of the codec of ids; the default if there is no such codec."""
    for codec in base.codecs.values():
        if codec.start.ndim == 0:
            end = codec.end
            return Ends(int(codec.start), None if end is None else int(end))
    return Ends()
