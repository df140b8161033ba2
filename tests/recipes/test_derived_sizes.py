"""Sizes that follow from other settings: the tokens of a row, the numbers of a head's vector."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from broadbase.core.errors import ConfigError
from broadbase.recipes.resolve import resolve
from broadbase.run.config import RunConfig

SMALL = [f"model.modalities.image.{k}" for k in ("height=28", "width=28", "channels=1", "patch=4")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    return str(folder)


@pytest.mark.parametrize("recipe", ["mae", "vq"])
def test_a_row_and_a_head_follow_the_picture(recipe: str, pictures: str) -> None:
    config = resolve(recipe, pictures, 1, SMALL)
    assert config.data.sources["image"].sequence_length == 1 + 7 * 7
    assert config.model.heads["pixels"].tree()["channels"] == 4 * 4


def test_codes_of_a_picture_have_rows_as_long(pictures: str) -> None:
    config = resolve("beit", pictures, 1, SMALL)
    assert [mixed.sequence_length for mixed in config.data.sources.values()] == [50, 50]


def test_a_written_config_has_the_sizes_and_they_follow_a_change(
    pictures: str, tmp_path: Path
) -> None:
    config = resolve("mae", pictures, 1)
    config.save(tmp_path)
    file = tmp_path / "config.yaml"
    assert "sequence_length: 65" in file.read_text()
    assert "channels: 192" in file.read_text()
    assert RunConfig.of_run(tmp_path) == config
    changed = resolve(str(file), None, None, SMALL)
    assert changed.data.sources["image"].sequence_length == 50
    assert changed.model.heads["pixels"].tree()["channels"] == 16


def test_a_size_that_contradicts_is_refused(pictures: str) -> None:
    with pytest.raises(ConfigError, match=r"image\.sequence_length: 50 tokens.* takes 65; leave"):
        resolve("image", pictures, 1, ["data.sources.image.sequence_length=50"])
    with pytest.raises(ConfigError, match=r"heads\.pixels\.channels: 48.*'image' has 192 numbers"):
        resolve("mae", pictures, 1, ["model.heads.pixels.channels=48"])


def test_a_row_may_hold_several_pictures(pictures: str) -> None:
    config = resolve("image", pictures, 1, ["data.sources.image.sequence_length=130"])
    assert config.data.sources["image"].sequence_length == 130
    same = RunConfig.from_tree(config.open_tree())
    assert same == config


def test_a_row_of_records_of_any_length_is_a_setting(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ConfigError, match=r"bytes\.sequence_length: records of 'bytes' differ"):
        resolve("bytes", str(tmp_path), 1, ["data.sources.bytes.sequence_length=null"])
