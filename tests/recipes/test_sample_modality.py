"""A recipe of an objective takes a sample set in the set's own modality."""

from __future__ import annotations

import pytest

from broadbase.recipes.recipe import find_recipe


@pytest.mark.parametrize("recipe", ["t5", "bart", "fim"])
@pytest.mark.parametrize("name", ["moses", "uniprot", "passages", "python"])
def test_the_modality_is_the_sample_sets(recipe: str, name: str) -> None:
    config = find_recipe(recipe).build(1, f"sample:{name}")
    (source,) = config.data.sources.values()
    modality = config.model.modalities[source.modality]
    wanted = {"moses": "molecule", "uniprot": "protein", "passages": "text", "python": "code"}
    assert modality.name == wanted[name]
    marks = {"t5": 100, "fim": 3, "bart": 0}[recipe]
    assert len(modality.corruption().sentinels) == marks


def test_vectors_are_no_text() -> None:
    config = find_recipe("t5").build(1, "sample:digits")
    assert [modality.name for modality in config.model.modalities.values()] == ["text"]
