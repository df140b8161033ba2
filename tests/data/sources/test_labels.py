"""Labels as texts: of the same keys as what they label."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from broadbase.core.sources import Record, Reject
from broadbase.data.samples.builtin import DigitsConfig
from broadbase.data.samples.catalog import sample
from broadbase.data.sources.files import ImageFilesConfig
from broadbase.data.sources.labels import LabelsConfig
from broadbase.data.sources.texts import TextFilesConfig


def test_labels_are_texts_of_the_same_keys(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / label / f"{label}1.png")
    pictures = ImageFilesConfig(path=str(tmp_path), labels="folder")
    texts = list(LabelsConfig(source=pictures).records())
    assert [t.raw for t in texts if isinstance(t, Record)] == ["cat", "dog"]
    keys = [r.key or r.origin for r in pictures.records() if isinstance(r, Record)]
    assert [t.key for t in texts if isinstance(t, Record)] == keys
    (named, *_) = LabelsConfig(source=DigitsConfig(last=1), names=("nought",)).records()
    assert isinstance(named, Record)
    assert named.raw == "nought"
    first = DigitsConfig(first=5, last=6)  # a 5
    (wrong,) = LabelsConfig(source=first, names=("nought", "one")).records()
    assert isinstance(wrong, Reject)
    assert wrong.reason == "label '5' is no number below 2"
    (tmp_path / "a.txt").write_text("no label")
    (missing,) = LabelsConfig(source=TextFilesConfig(path=str(tmp_path))).records()
    assert isinstance(missing, Reject)
    assert "no label" in missing.reason


def test_articles_have_names() -> None:
    text = sample("fashion").options["text"]
    assert isinstance(text, LabelsConfig)
    assert text.names[0] == "t-shirt"
    assert text.names[9] == "ankle boot"
