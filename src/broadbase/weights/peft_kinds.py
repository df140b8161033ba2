"""The kinds of adapters as PEFT's files have them: fields of their config, names of their tensors.

A published map may hold several maps of ours, as queries, keys and values in one matrix. Its
adapter is then cut into their parts, and put together from them.

Legend: F outputs, K inputs, R rank.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from broadbase.nn.adapters.adapter import AdapterConfig
from broadbase.nn.adapters.ia3 import IA3Config
from broadbase.nn.adapters.lora import LowRankConfig

Tensors = Mapping[str, Tensor]  # by the name of the parameter


@dataclass(frozen=True)
class Part:
    """A linear map of ours, and the outputs of a published one that it is."""

    path: str
    rows: slice
    linear: nn.Linear


@dataclass(frozen=True)
class PeftKind(ABC):
    """How PEFT writes a kind of adapters."""

    name: str  # in the slot of adapters
    marks: Mapping[str, Any]  # the fields of adapter_config.json that say that it is this kind
    suffixes: Mapping[str, str]  # the ends of the names of tensors, by our names of parameters
    plain: Mapping[
        str, Sequence[Any]
    ]  # fields that change what is computed, and values that do not

    @abstractmethod
    def settings(
        self,
        fields: Mapping[str, Any],
        modules: Mapping[str, Tensors],
        parts: Mapping[str, Sequence[Part]],
    ) -> dict[str, Any]:
        """Return settings of ours for PEFT's fields, and for its tensors by published map."""

    @abstractmethod
    def cut(
        self, config: Any, fields: Mapping[str, Any], module: str, tensors: Tensors, part: Part
    ) -> dict[str, Tensor]:
        """Return the parameters of a part of a published map."""

    @abstractmethod
    def joined(
        self, config: Any, parts: Sequence[Part], given: Mapping[str, Tensors]
    ) -> dict[str, Tensor]:
        """Return the tensors of a published map, of the parameters of its parts by path."""

    @abstractmethod
    def fields(
        self, config: Any, modules: Mapping[str, Tensors], names: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return fields of adapter_config.json, given PEFT's tensors by published map.

        `names` are those by which PEFT finds the maps.
        """


class LowRank(PeftKind):
    """LoRA and DoRA."""

    def settings(
        self,
        fields: Mapping[str, Any],
        modules: Mapping[str, Tensors],
        parts: Mapping[str, Sequence[Part]],
    ) -> dict[str, Any]:
        """Return rank, alpha and dropout; the rank is the largest that a map has."""
        rank, usual = max(len(each["down"]) for each in modules.values()), fields["r"]
        stabilised = bool(fields.get("use_rslora"))
        share = math.sqrt(rank / usual) if stabilised else rank / usual
        return {
            "rank": rank,
            "alpha": fields["lora_alpha"] * share,
            "rank_stabilised": stabilised,
            "dropout": fields.get("lora_dropout") or 0.0,
        }

    def cut(
        self, config: Any, fields: Mapping[str, Any], module: str, tensors: Tensors, part: Part
    ) -> dict[str, Tensor]:
        """Return the rows of `up` and of the magnitude; ranks are filled up with 0."""
        patterns = fields.get("alpha_pattern") or {}
        keys = [key for key in patterns if re.match(rf"(.*\.)?({key})$", module)]
        alpha = patterns[keys[0]] if keys else fields["lora_alpha"]
        down_RK, up_FR = tensors["down"], tensors["up"][part.rows]
        rank = len(down_RK)
        scale = alpha / (math.sqrt(rank) if config.rank_stabilised else rank)
        if not math.isclose(scale, config.scale):
            up_FR = up_FR * (scale / config.scale)
        more = config.rank - rank
        filled = {"down": (0, 0, 0, more), "up": (0, more)}
        cut = {"down": down_RK, "up": up_FR}
        result = {k: nn.functional.pad(t, filled[k]) if more else t for k, t in cut.items()}
        if "magnitude" in tensors:
            result["magnitude"] = tensors["magnitude"][part.rows].flatten()
        return result

    def joined(
        self, config: Any, parts: Sequence[Part], given: Mapping[str, Tensors]
    ) -> dict[str, Tensor]:
        """Return one product: of equal `down`, or of all of them one below the other."""
        downs = [given[part.path]["down"] for part in parts if part.path in given]
        same = all(torch.equal(down, downs[0]) for down in downs)
        rank, size = config.rank, max(part.rows.stop for part in parts)
        up_FR = torch.zeros(size, rank if same else rank * len(downs))
        lengths = torch.empty(size)
        column = 0
        for part in parts:
            own = given.get(part.path)
            lengths[part.rows] = part.linear.weight.detach().float().norm(dim=1)
            if own is None:
                continue
            up_FR[part.rows, column : column + rank] = own["up"]
            lengths[part.rows] = own.get("magnitude", lengths[part.rows])
            column += 0 if same else rank
        result = {"down": downs[0] if same else torch.cat(downs), "up": up_FR}
        return {**result, "magnitude": lengths} if "magnitude" in self.suffixes else result

    def fields(
        self, config: Any, modules: Mapping[str, Tensors], names: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return rank, alpha, and those of maps of a larger rank."""
        assert isinstance(config, LowRankConfig)
        ranks = {k: len(t["down"]) for k, t in modules.items() if len(t["down"]) != config.rank}
        alphas = {
            k: config.scale * (math.sqrt(rank) if config.rank_stabilised else rank)
            for k, rank in ranks.items()
        }
        return {
            "r": config.rank,
            "lora_alpha": config.alpha,
            "lora_dropout": config.dropout,
            "use_rslora": config.rank_stabilised,
            "bias": "none",
            "rank_pattern": ranks,
            "alpha_pattern": alphas,
        }


class Factors(PeftKind):
    """IA3, whose factors are columns [F,1] at outputs and rows [1,K] at inputs."""

    def settings(
        self,
        fields: Mapping[str, Any],
        modules: Mapping[str, Tensors],
        parts: Mapping[str, Sequence[Part]],
    ) -> dict[str, Any]:
        """Return the names of the maps whose inputs have factors, by the shapes of these."""
        rows = [module for module, tensors in modules.items() if len(tensors["factor"]) == 1]
        paths = [part.path for module in rows for part in parts[module]]
        return {"inputs": sorted({path.rpartition(".")[2] for path in paths})}

    def cut(
        self, config: Any, fields: Mapping[str, Any], module: str, tensors: Tensors, part: Part
    ) -> dict[str, Tensor]:
        """Return the factors of some outputs, or of all inputs."""
        factor = tensors["factor"]
        return {"factor": factor[0] if len(factor) == 1 else factor[part.rows, 0]}

    def joined(
        self, config: Any, parts: Sequence[Part], given: Mapping[str, Tensors]
    ) -> dict[str, Tensor]:
        """Return the factors of all outputs, or of the inputs."""
        assert isinstance(config, IA3Config)
        if parts[0].path.rpartition(".")[2] in config.inputs:
            return {"factor": given[parts[0].path]["factor"][None]}
        factor_F1 = torch.ones(max(part.rows.stop for part in parts), 1)
        for part in parts:
            if part.path in given:
                factor_F1[part.rows, 0] = given[part.path]["factor"]
        return {"factor": factor_F1}

    def fields(
        self, config: Any, modules: Mapping[str, Tensors], names: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return which maps have factors at their inputs."""
        rows = {names[module] for module, each in modules.items() if len(each["factor"]) == 1}
        return {"feedforward_modules": sorted(rows)}


LOW_RANK = {"down": "lora_A.weight", "up": "lora_B.weight"}
NO = (None, False)
PLAIN: dict[str, Sequence[Any]] = {
    "modules_to_save": (None, []),
    "bias": ("none",),
    "layer_replication": (None,),
}
WITHOUT = {
    **PLAIN,
    "lora_bias": NO,
    "use_qalora": NO,
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
}
KINDS: tuple[PeftKind, ...] = (
    LowRank("lora", {"peft_type": "LORA", "use_dora": False}, LOW_RANK, WITHOUT),
    LowRank(
        "dora",
        {"peft_type": "LORA", "use_dora": True},
        {**LOW_RANK, "magnitude": "lora_magnitude_vector"},
        WITHOUT,
    ),
    Factors("ia3", {"peft_type": "IA3"}, {"factor": "ia3_l"}, PLAIN),
)


def kind_of_config(config: AdapterConfig) -> PeftKind | None:
    """Return how PEFT writes an adapter of ours; None where it has no such kind."""
    return next((kind for kind in KINDS if kind.name == config.name), None)


def kind_of_fields(fields: Mapping[str, Any]) -> PeftKind | None:
    """Return the kind that an adapter_config.json is of; None where we have no such kind."""
    given = {"use_dora": False, **fields}
    for kind in KINDS:
        if all(given.get(name) == value for name, value in kind.marks.items()):
            return kind
    return None
