"""Initialising a model from a base: its weights, bit for bit, in a model that may have more.

The model may have further modalities; further ids of a modality are new rows of its tables, after
the base's (AudioPaLM; Rubenstein et al. 2023, 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from broadbase.core.codec import Codec
from broadbase.core.contracts import ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.core.spaces import Embedder
from broadbase.inference.base import Base
from broadbase.model.model import Model, ModelConfig
from broadbase.weights.folder import check_compatible, load
from broadbase.weights.mapping import families_by_type
from broadbase.weights.match import HEAD, HEADS
from broadbase.weights.special_tokens import spoken

# settings of a modality that may differ from the base's: they change no id of the base
FREE = ("vocab_size", "extra_ids", "z_loss_coef", "tokenizer", *HEADS)


def config_with_head(base: Base) -> ModelConfig:
    """Return the config of a base; published weights without a head get that of their family."""
    if base.origin is None:
        return base.config
    head = getattr(families_by_type()[base.origin.config["model_type"]], "HEAD", HEAD)
    return spoken(base.origin.config, (*base.origin.names, *head), base.origin.files).config


@torch.no_grad()
def load_from(
    path: str,
    objective: ObjectiveConfig,
    model: Model,
    say: Callable[[str], object] | None = None,
) -> None:
    """Give a model the weights of the base at `path`; other tensors keep their initial values.

    `say` reports these tensors, and an objective with another attention pattern. ConfigError names
    a tensor of the base that the model lacks, or that has another shape.
    """
    base = load(path)
    state = model.state_dict()
    for name, old in base.model.state_dict().items():
        if name not in state:
            raise ConfigError(
                f"init_from={path}: its base has {name!r}, which this model lacks; keep all of the"
                " base's modalities, towers and connectors"
            )
        new = state[name]
        rows = len(old) if _grown(name, base.model, model) else len(new) if new.ndim else 0
        part = new[:rows] if new.ndim else new
        if part.shape != old.shape:
            raise ConfigError(
                f"init_from={path}: {name!r} is {list(old.shape)} in its base and"
                f" {list(new.shape)} here; set the size of the model as the base has it"
            )
        part.copy_(old)
    loaded = base.model.state_dict()
    fresh = dict.fromkeys(".".join(name.split(".")[:3]) for name in state if name not in loaded)
    if say is not None and fresh:
        say(f"init_from={path}: its base has no {', '.join(fresh)}; initialised at random")
    if say is not None and objective.pattern != base.usage.attention:
        say(
            f"init_from={path}: its base has {base.usage.attention} attention, and objective"
            f" {objective.name!r} trains with {objective.pattern} attention"
        )


def compatible(base: Base, codecs: Mapping[str, Codec], config: ModelConfig, path: str) -> None:
    """Check that codecs that a base has too encode alike in both; ConfigError if one does not."""
    shared = {name: codec for name, codec in codecs.items() if name in base.codecs}
    check_compatible(base, shared, config, f"init_from={path}", free=FREE)


def _grown(name: str, old: Model, new: Model) -> bool:
    """Return whether a tensor is a table of ids to which only new ones were added."""
    kind, _, rest = name.partition(".")
    space, _, parameter = rest.partition(".")
    if kind != "spaces" or not isinstance(embedder := new.spaces[space], Embedder):
        return False
    return parameter in embedder.id_tables and embedder.is_extension_of(old.spaces[space])
