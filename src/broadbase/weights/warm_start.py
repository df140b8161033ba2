"""Starting from a base: its weights, bit for bit, in a model that has all it has, and maybe more.

A new modality is a new Space beside those of the base; new ids of a known one are new rows of its
tables, after the base's (AudioPaLM; Rubenstein et al. 2023, 3.1).
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
from broadbase.weights.folder import base_at, check_compatible
from broadbase.weights.mapping import known_families
from broadbase.weights.match import HEAD, HEADS
from broadbase.weights.special_tokens import spoken

# settings of a modality that may differ from the base's: they change no id that it has
FREE = ("vocab_size", "extra_ids", "z_loss_coef", "tokenizer", *HEADS)


def config_with_head(base: Base) -> ModelConfig:
    """The config of a base; of published weights that came without a head, with their family's."""
    if base.origin is None:
        return base.config
    head = getattr(known_families()[base.origin.config["model_type"]], "HEAD", HEAD)
    return spoken(base.origin.config, (*base.origin.names, *head), base.origin.files).config


@torch.no_grad()
def load_from(
    place: str,
    objective: ObjectiveConfig,
    model: Model,
    say: Callable[[str], object] | None = None,
) -> None:
    """Give a model the weights of the base at a `place`; what the base lacks stays as it was
    initialised. That is told with `say`, and where the objective lets places see otherwise.

    ConfigError, which names the place, where the model has no room for a tensor.
    """
    base = base_at(place)
    state = model.state_dict()
    for name, old in base.model.state_dict().items():
        if name not in state:
            raise ConfigError(
                f"init_from={place}: its base has {name!r} and this model has not; keep all of the"
                " base's modalities, towers and connectors"
            )
        new = state[name]
        rows = len(old) if _grown(name, base.model, model) else len(new) if new.ndim else 0
        part = new[:rows] if new.ndim else new
        if part.shape != old.shape:
            raise ConfigError(
                f"init_from={place}: {name!r} is {list(old.shape)} in its base and"
                f" {list(new.shape)} here; set the size of the model as the base has it"
            )
        part.copy_(old)
    known = base.model.state_dict()
    new = dict.fromkeys(".".join(name.split(".")[:3]) for name in state if name not in known)
    if say is not None and new:
        say(f"init_from={place}: begins anew, as it has none: {', '.join(new)}")
    if say is not None and objective.pattern != base.usage.attention:
        say(
            f"init_from={place}: its places saw each other {base.usage.attention}, and objective"
            f" {objective.name!r} trains them {objective.pattern}"
        )


def compatible(base: Base, codecs: Mapping[str, Codec], config: ModelConfig, place: str) -> None:
    """ConfigError where one of these codecs, which a base has too, encodes otherwise there."""
    shared = {name: codec for name, codec in codecs.items() if name in base.codecs}
    check_compatible(base, shared, config, f"init_from={place}", free=FREE)


def _grown(name: str, old: Model, new: Model) -> bool:
    """Whether a tensor is a table of ids to which only new ones were added."""
    kind, _, rest = name.partition(".")
    space, _, parameter = rest.partition(".")
    if kind != "spaces" or not isinstance(here := new.spaces[space], Embedder):
        return False
    return parameter in here.id_tables and here.is_extension_of(old.spaces[space])
