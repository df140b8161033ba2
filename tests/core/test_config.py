"""Names in a slot, and changed copies of a config."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import pytest

from broadbase.core.config import Slot
from broadbase.core.errors import ConfigError
from broadbase.model.model import ModelConfig
from support.models import TOWER


class CheeseConfig(Slot):
    """A slot."""

    package = "core"


class BrieConfig(CheeseConfig):
    """A choice."""

    name: Literal["brie"] = "brie"
    age: int = 1


def test_a_second_class_of_one_name_is_refused_with_both() -> None:
    with pytest.raises(ConfigError, match=r"OtherConfig and .*BrieConfig are both called 'brie'"):

        class OtherConfig(CheeseConfig):
            name: Literal["brie"] = "brie"

    assert CheeseConfig.named("brie") is BrieConfig


def test_a_choice_may_inherit_from_another() -> None:
    class RipeConfig(BrieConfig):
        name: Literal["ripe"] = "ripe"  # type: ignore[assignment]

    assert CheeseConfig.named("ripe") is RipeConfig


def test_a_class_that_is_defined_again_replaces_itself() -> None:
    def define() -> type[Slot]:
        class FetaConfig(CheeseConfig):
            name: Literal["feta"] = "feta"

        return FetaConfig

    define()
    again = define()
    assert CheeseConfig.named("feta") is again


def test_an_unknown_field_of_a_choice_gets_a_hint_from_its_fields() -> None:
    class EmmentalConfig(CheeseConfig):
        name: Literal["emmental"] = "emmental"
        ripeness: int = 1

    with pytest.raises(ConfigError, match=r"unknown field `ripenes`; did you mean `ripeness`\?"):
        CheeseConfig.from_tree({"name": "emmental", "ripenes": 2})


def test_a_class_without_a_method_of_its_slot_is_no_choice_and_cannot_be_made() -> None:
    class BreadConfig(Slot):
        package = "core"

        @abstractmethod
        def bake(self) -> str:
            """Return what comes out of the oven."""

    class DoughConfig(BreadConfig):
        name: Literal["dough"] = "dough"

    class RyeConfig(BreadConfig):
        name: Literal["rye"] = "rye"

        def bake(self) -> str:
            return "a loaf"

    with pytest.raises(TypeError, match="abstract method"):
        DoughConfig()  # type: ignore[abstract]
    assert BreadConfig.choices == {"rye": RyeConfig}
    with pytest.raises(ConfigError, match="DoughConfig is called 'dough' but lacks `bake`"):
        BreadConfig.from_tree({"name": "dough"})
    assert BreadConfig.model_validate({"name": "rye"}).bake() == "a loaf"


def test_a_changed_copy_is_validated_and_names_the_bad_field() -> None:
    brie = BrieConfig(age=3)
    older = brie.replace(age=4)
    assert (brie.age, older.age) == (3, 4)
    assert type(older) is BrieConfig
    with pytest.raises(ConfigError, match=r"`age`: .*valid integer.* \(got 'old'\)"):
        brie.replace(age="old")
    with pytest.raises(ConfigError, match="unknown field `aeg`; did you mean `age`"):
        brie.replace(aeg=4)


def test_a_changed_copy_is_checked_as_a_complete() -> None:
    model = ModelConfig.from_tree(
        {"modalities": {"text": {"name": "bytes"}}, "towers": {"main": TOWER}}
    )
    assert model.replace(tower_of={"text": "main"}).tower_of == {"text": "main"}
    with pytest.raises(ConfigError, match=r"tower_of\.text: no tower is called 'mian'"):
        model.replace(tower_of={"text": "mian"})
