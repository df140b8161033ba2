"""What a folder or file holds is found: labels, pairs, pictures and sounds that a table lists."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from broadbase.core.errors import BroadbaseError, DataError
from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.data.detect import detect, labelled, pairs
from broadbase.data.sources.files import FilesConfig, ImageFilesConfig
from broadbase.data.sources.left_out import left_out, notes
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.recipes.molecule import build as molecules
from broadbase.recipes.resolve import resolve


def records(source: SourceConfig) -> list[Record]:
    result = list(source.records())
    assert not [item.reason for item in result if isinstance(item, Reject)]
    return [item for item in result if isinstance(item, Record)]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures and sounds, each of another shade and pitch, in folders of several depths."""
    folder = tmp_path_factory.mktemp("media")
    for i, where in enumerate(("cat/a", "cat/b", "dog/a", "dog")):
        (folder / where).mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 10 * i).save(folder / where / f"{i}.PNG")
        soundfile.write(folder / where / f"{i}.wav", np.full(400, 0.1 * (i + 1)), 8000)
    return folder


PATHS = ("cat/a/0", "cat/b/1", "dog/a/2", "dog/3")


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """A table of any kind, by its ending."""
    names = list(rows[0])
    if path.suffix == ".csv":
        lines = [";".join(names), *(";".join(row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "parquet"])
@pytest.mark.parametrize("complete", [True, False])
def test_pictures_and_texts_that_a_table_lists(media: Path, ending: str, complete: bool) -> None:
    """metadata.csv in a folder of pictures, or the table alone."""
    table = media / f"metadata.{ending}"
    write(table, [{"file_name": f"{p}.PNG", "caption": f"shade {i}"} for i, p in enumerate(PATHS)])
    try:
        result = pairs(str(media if complete else table))
        pictures, texts = records(result["image"]), records(result["text"])
        assert [r.key for r in pictures] == [r.key for r in texts]
        assert [r.raw for r in texts] == [f"shade {i}" for i in range(4)]
        assert [r.raw.getpixel((0, 0)) for r in pictures] == [0, 10, 20, 30]
        expected = {".wav": 4} if complete else {}
        assert left_out(result.values()) == expected
        (alone,) = detect(str(table), ImageFilesConfig(path=str(table)))
        assert len(records(alone)) == 4
    finally:
        table.unlink()


def test_sounds_and_labels_that_a_table_lists(media: Path) -> None:
    table = media / "list.csv"
    write(table, [{"path": f"{p}.wav", "label": p[:3], "said": "x"} for p in PATHS])
    try:
        source = labelled(str(table), "text", "label")
        assert [r.label for r in records(source)] == ["cat", "cat", "dog", "dog"]
        assert round(float(records(source)[3].raw.samples[0]), 2) == 0.4
        assert labelled(str(table), "path", "label") == source
        before = source.fingerprint()
        soundfile.write(media / "dog/3.wav", np.full(400, 0.45), 8000)
        assert source.fingerprint() != before
    finally:
        table.unlink()


def test_a_list_with_mistakes(media: Path, tmp_path: Path) -> None:
    names = (f"{media}/dog/3.PNG", "no/such.png", "http://localhost/x.png", "broken.png", " ")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    write(tmp_path / "a.csv", [{"image": name, "text": f"t{i}"} for i, name in enumerate(names)])
    good, gone, url, broken, empty = pairs(str(tmp_path / "a.csv"))["image"].records()
    assert isinstance(good, Record)
    for item, reason in ((gone, "there is no file"), (url, "URL"), (broken, "not an image")):
        assert isinstance(item, Reject)
        assert reason in item.reason
    assert "a.csv:5 (" in broken.origin
    assert isinstance(empty, Reject)
    assert empty.empty


def test_the_first_folder_is_the_class(media: Path, tmp_path: Path) -> None:
    result = records(labelled(str(media), "text", "label"))
    assert [r.label for r in result] == ["cat", "cat", "dog", "dog"]
    assert notes(labelled(str(media), "text", "label")) == [
        "left out, as no source reads them: 4 .wav",
        f"the class of a file is the first folder below {media}; files lie in folders 1 to 2 deep",
    ]
    for name in ("pos/1.txt", "pos/deep/2.TXT", "neg/3.txt", "readme.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    result = records(labelled(str(tmp_path), "text", "label"))
    assert [r.label for r in result] == ["neg", "pos", "pos", None]


def test_a_table_that_is_not_of_labels_hides_no_folders(media: Path) -> None:
    table = media / "metadata.csv"
    write(table, [{"file": "a", "notes": "b"}])
    try:
        assert labelled(str(media), "text", "label").name == "image_files"
    finally:
        table.unlink()


WRONG = {
    "label": (
        "a.jsonl",
        '{"text": "a", "label": "x"}\n',
        ("text", "lable"),
        "did you mean `label`",
    ),
    "field": ("a.csv", "txt,label\na,x\n", ("text", "label"), "name it with --field"),
    "kind": ("a.smi", "CCO\n", ("text", "label"), "it holds 1 .smi"),
    "flat": ("a.txt", "some text", ("text", "label"), "a folder for each class"),
    "broken": ("a.jsonl", '{"text', ("text", "label"), "broken JSON"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_why_there_are_no_labels(tmp_path: Path, kind: str) -> None:
    name, text, (field, label), message = WRONG[kind]
    (tmp_path / name).write_text(text)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match=message):
            labelled(str(path), field, label)
    with pytest.raises(BroadbaseError, match="does not exist"):
        labelled(str(tmp_path / "no"), field, label)


def test_a_table_counts_where_it_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a text")
    (tmp_path / "b.jsonl").write_text('{"text": ""}\n{"text": "b"}\n')
    (tmp_path / "c.csv").write_text("other\nc\n")
    (tmp_path / "package.json").write_text('{"version": 3}')
    result = detect(str(tmp_path), TextFilesConfig(path=str(tmp_path)))
    assert [source.name for source in result] == ["text_files", "jsonl"]
    assert left_out(result) == {".csv": 1, ".json": 1}


def test_a_field_of_a_listing_is_set(media: Path) -> None:
    table = media / "two.csv"
    write(table, [{"image": f"{p}.PNG", "other": "cat/a/0.PNG"} for p in PATHS])
    try:
        config = resolve("image", str(table), 1, field="other")
        source = next(iter(config.data.sources.values())).source
        assert {r.raw.getpixel((0, 0)) for r in records(source)} == {0}
    finally:
        table.unlink()


def test_molecules_of_lines_and_of_structures(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("CCO\n")
    (tmp_path / "b.sdf").write_text("")
    sources = [mixed.source for mixed in molecules(1, str(tmp_path)).data.sources.values()]
    assert [source.name for source in sources] == ["smiles", "sdf"]
    assert all(isinstance(source, FilesConfig) for source in sources)


def test_a_field_of_data_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        resolve("text", str(tmp_path / "no"), 1, field="other")
