"""Stamps: picture, name and spoken name of one key in every language that has all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from broadbase.core.errors import ConfigError
from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.data.detect import pairs
from broadbase.data.samples.sets import SAMPLES
from broadbase.data.samples.stamps import StampNamesConfig, StampPicturesConfig, StampSoundsConfig
from broadbase.recipes.recipe import find_recipe

RECTANGLE = '<rect width="99" height="99"/>'
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" width="8pt" height="4pt">{RECTANGLE}</svg>'
CROW = "A crow.\nfr.utf8=Une corneille.\nes.utf8=Un cuervo\nno equals sign\nru.utf8=Ворона.\n"
KINDS = (StampPicturesConfig, StampNamesConfig, StampSoundsConfig)


def stamp(folder: Path, name: str, text: str, spoken: Sequence[str]) -> Path:
    """A stamp's text, and a second of noise for each language."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    for i, language in enumerate(spoken):
        noise = np.random.default_rng(i).normal(0, 0.1, (8000, 1 + i % 2))
        soundfile.write(folder / f"{name}_desc_{language}.ogg", noise, 8000)
    return folder / name


@pytest.fixture
def stamps(tmp_path: Path) -> Path:
    birds = tmp_path / "birds"
    crow = stamp(birds, "crow", CROW, ("fr", "ru", "bg"))
    clear = np.zeros((4, 8, 4), np.uint8)
    clear[:, 4:] = (255, 0, 0, 255)
    Image.fromarray(clear).save(f"{crow}.png")
    drawn = stamp(birds, "crow_drawn", "A CROW\nfr.utf8=Une corneille\n", ("fr", "es"))
    drawn.with_suffix(".svg").write_text(SVG)
    stamp(tmp_path, "story", f"A story.\nfr.utf8={'bla ' * 20}\n", ("fr",))
    return tmp_path


def records(source: SourceConfig) -> list[Record]:
    return [record for record in source.records() if isinstance(record, Record)]


def test_the_three_kinds_of_a_record_have_one_key(stamps: Path) -> None:
    """Where a stamp is named and spoken: not where either is missing, nor where a text is told."""
    result = {kind: records(kind(path=str(stamps))) for kind in KINDS}
    for each in result.values():
        assert [(r.key, r.label, r.group) for r in each] == [
            ("birds/crow_desc_fr", "fr", "a crow"),
            ("birds/crow_desc_ru", "ru", "a crow"),
            ("birds/crow_drawn_desc_fr", "fr", "a crow"),
        ]
    assert [r.raw for r in result[StampNamesConfig]] == ["Une corneille", "Ворона", "Une corneille"]
    assert [r.converted for r in result[StampSoundsConfig]] == [(), ("2 channels to 1",), ()]


def test_pictures_are_on_a_white_square(stamps: Path) -> None:
    result = records(StampPicturesConfig(path=str(stamps), size=8))
    crow, _, drawn = (np.asarray(record.raw) for record in result)
    assert crow.shape == drawn.shape == (8, 8, 3)
    assert crow[4, 1].tolist() == crow[0, 7].tolist() == [255, 255, 255]  # clear, and beside it
    assert crow[4, 7].tolist() == [255, 0, 0]
    assert drawn[4, 1].tolist() == [0, 0, 0]
    assert drawn[0, 1].tolist() == [255, 255, 255]


def test_other_languages_and_lengths_can_be_requested_for(stamps: Path) -> None:
    result = records(StampNamesConfig(path=str(stamps), languages=("fr", "en"), longest=200))
    assert len(result) == 3
    assert result[-1].raw.startswith("bla bla")


@pytest.mark.parametrize("damage", ["png", "svg", "none"])
def test_a_picture_that_cannot_be_read_is_rejected_by_name(stamps: Path, damage: str) -> None:
    (stamps / "birds" / "crow.png").unlink()
    if damage != "none":
        (stamps / "birds" / f"crow.{damage}").write_bytes(b"no picture")
    bad = [r for r in StampPicturesConfig(path=str(stamps)).records() if isinstance(r, Reject)]
    assert len(bad) == 1
    assert bad[0].origin.endswith("crow.txt")
    assert "picture cannot be read" in bad[0].reason


def test_a_sound_that_cannot_be_read_is_rejected_by_name(stamps: Path) -> None:
    (stamps / "birds" / "crow_desc_ru.ogg").write_bytes(b"OggS no sound")
    result = list(StampSoundsConfig(path=str(stamps)).records())
    assert [isinstance(r, Reject) for r in result] == [False, True, False]
    assert result[1].origin.endswith("crow_desc_ru.ogg")


def test_the_set_has_three_kinds_and_others_have_not() -> None:
    kinds = ("image", "text", "audio")
    assert set(pairs("sample:stamps", kinds)) == set(kinds)
    assert set(pairs("sample:stamps")) == {"image", "text"}
    with pytest.raises(ConfigError, match=r"'openmoji' has no pairs of .* and audio; .*: stamps$"):
        find_recipe("bind").build(4, "sample:openmoji")


@pytest.mark.slow
def test_the_real_set_holds_what_it_says() -> None:
    """Two stamps have names and sounds, and no picture."""
    result = SAMPLES["stamps"].kinds
    names, pictures = (records(result[kind]) for kind in ("text", "image"))
    assert len(names) == 5996
    assert len({record.group for record in names}) == 688
    assert len(pictures) == 5980
    assert {r.key for r in pictures} < {r.key for r in names}
