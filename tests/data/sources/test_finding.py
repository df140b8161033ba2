"""Which files of a folder are read: endings in any case, linked folders; what is not is counted."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.data.detect import detect
from broadbase.data.sources.files import FilesConfig, ImageFilesConfig
from broadbase.data.sources.finding import counted, matches
from broadbase.data.sources.left_out import left_out
from broadbase.data.sources.searching import searched
from broadbase.data.sources.sequences import FastaConfig, SdfConfig, SmilesFilesConfig
from broadbase.data.sources.sound import AudioFilesConfig
from broadbase.data.sources.tables import ArrowConfig, CsvConfig, ParquetConfig
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.data.sources.video import VideoFilesConfig
from support.stores import stored

KINDS: tuple[type[FilesConfig], ...] = (
    TextFilesConfig,
    ImageFilesConfig,
    AudioFilesConfig,
    VideoFilesConfig,
    CsvConfig,
    ParquetConfig,
    ArrowConfig,
    FastaConfig,
    SmilesFilesConfig,
    SdfConfig,
)
PACKED = ("", ".gz", ".zst", ".bz2", ".xz")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_ending_counts_in_any_case(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    source = kind(path=".")
    ending = data.draw(st.sampled_from(source.pattern.split())).removeprefix("**/*")
    packed = "" if not kind.unpacks or ending.count(".") > 1 else data.draw(st.sampled_from(PACKED))
    mixed = "".join(
        c.upper() if data.draw(st.booleans()) else c.lower() for c in f"{ending}{packed}"
    )
    folders = data.draw(st.sampled_from(["", "a/", "A.b/c d/"]))
    name = data.draw(st.sampled_from(["x", "Photo 1", "caf\udce9", "new\nline", "two.parts"]))
    assert source.wants(f"{folders}{name}{mixed}")


def names(source: FilesConfig) -> list[str]:
    return [str(path.relative_to(source.root)) for path in source.files()]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Files of all sorts: 3 + 2 + 2 that are texts, behind links too, and much that is none."""
    folder, other = tmp_path / "d", tmp_path / "other"
    for each in (folder / "a" / ".git", folder / "__MACOSX", folder / ".ipynb_checkpoints", other):
        each.mkdir(parents=True)
    for name in ("1.txt", "2.TXT", "a/3.Md"):
        (folder / name).write_text(f"a text {name}")
    (folder / "a" / "4.Txt.GZ").write_bytes(gzip.compress(b"a packed text"))
    (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt"))).write_text("a name in latin-1")
    for name in ("5.txt", "6.md"):
        (other / name).write_text(f"behind a link {name}")
    (folder / "linked").symlink_to(other)
    (folder / "twice").symlink_to(other)
    (folder / "self").symlink_to(".")
    (folder / "up").symlink_to("..")
    (folder / "gone.txt").symlink_to("nowhere.txt")
    (folder / "ring.txt").symlink_to("ring.txt")
    os.mkfifo(folder / "pipe.txt")
    for name in ("k.pdf", "k.svg", "l.svg", ".hidden.txt", "._1.txt", ".DS_Store"):
        (folder / name).write_text("no data")
    for name in ("a/.git/x.txt", "__MACOSX/1.txt", ".ipynb_checkpoints/1.txt"):
        (folder / name).write_text("no data")
    return folder


def test_what_is_read_and_what_is_left_out(mixed: Path) -> None:
    source = TextFilesConfig(path=str(mixed))
    result = ["1.txt", "2.TXT", "a/3.Md", "a/4.Txt.GZ", "caf\udce9.txt"]
    assert names(source) == [*result, "linked/5.txt", "linked/6.md"]
    assert all(isinstance(item, Record) for item in source.records())
    assert left_out([source]) == {
        ".pdf": 1,
        ".svg": 2,
        "hidden": 6,
        "broken link": 2,
        "link to a folder above": 1,
        "device, pipe or socket": 1,
    }
    other = TextFilesConfig(path=str(mixed), pattern="*.svg")
    assert ".svg" not in left_out([source, other])
    hidden = TextFilesConfig(path=str(mixed), pattern="**/.git/*.txt")
    assert names(hidden) == ["a/.git/x.txt"]


def test_the_store_keeps_what_was_left_out(mixed: Path, tmp_path: Path) -> None:
    store = stored(TextFilesConfig(path=str(mixed)), tmp_path / "s", holdout=0.3, similarity=1.0)
    assert store.left_out[".svg"] == 2
    assert store.manifest["counts"]["records"] == 7
    (mixed / "m.svg").write_text("one more")
    store = stored(TextFilesConfig(path=str(mixed)), tmp_path / "s", holdout=0.3, similarity=1.0)
    assert store.left_out[".svg"] == 3


def test_a_count_of_many_kinds_is_short() -> None:
    kinds = {f".{c}": n for n, c in enumerate("abcdefgh", 1)}
    assert counted(kinds) == "8 .h, 7 .g, 6 .f, 5 .e, 4 .d, 3 .c, 3 others"


@pytest.mark.parametrize("pattern", ["/etc/*.txt", "../*.txt", "~/x", "", "a/../../b", "**x"])
def test_a_pattern_stays_in_its_folder(pattern: str) -> None:
    with pytest.raises(ConfigError, match="pattern"):
        SourceConfig.from_tree({"name": "text_files", "path": ".", "pattern": pattern})


URLS = ("s3://b/k", "ssh://h/x", "reference://x", "gs://a/b", "zip://x::no.zip", "nothing://x")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("url", URLS)
def test_a_url_that_cannot_be_opened(url: str) -> None:
    with pytest.raises(BroadbaseError, match=f"{url}|path"):
        list(TextFilesConfig(path=url).records())


@pytest.mark.parametrize("path", ["", "  "])
def test_an_empty_path(path: str) -> None:
    with pytest.raises(ConfigError, match="empty; give a folder or a file with --data"):
        detect(path, TextFilesConfig(path=path))


def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    source = TextFilesConfig(path=str(tmp_path / "d"))
    with pytest.raises(DataError, match="it holds nothing"):
        source.files()


def test_molecules_of_all_kinds_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("CCO\n")
    (tmp_path / "b.SDF").write_text("")
    plain = SmilesFilesConfig(path=str(tmp_path)), SdfConfig(path=str(tmp_path))
    assert [source.name for source in detect(str(tmp_path), *plain)] == ["smiles", "sdf"]
    alone = str(tmp_path / "b.SDF")
    plain = SmilesFilesConfig(path=alone), SdfConfig(path=alone)
    assert [source.name for source in detect(alone, *plain)] == ["sdf"]


def test_a_pattern_that_searches_for_ever(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">" + "a" * 60 + "!\nMKV\n")
    with pytest.raises(ConfigError, match=r"takes over 1 s"):
        list(FastaConfig(path=str(tmp_path), label=r"^(a|aa)+$").records())
    with pytest.raises(ConfigError, match="no regular expression"):
        SourceConfig.from_tree({"name": "fasta", "path": ".", "label": "(a"})
    assert searched("(b)", "abc")


def test_a_reject_of_a_file_takes_its_bytes_with_it(tmp_path: Path) -> None:
    full = gzip.compress(np.random.default_rng(0).bytes(5000))
    (tmp_path / "a.csv.gz").write_bytes(full[:-8])
    (only,) = CsvConfig(path=str(tmp_path)).records()
    assert isinstance(only, Reject)
    assert only.lost == len(full) - 8
    Image.new("L", (3, 3)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-20])
    (only,) = ImageFilesConfig(path=str(tmp_path)).records()
    assert isinstance(only, Reject)
    assert only.lost == 0  # one record


def test_ways_to_write_a_glob() -> None:
    assert matches("a/b/c.txt", "**/*.txt")
    assert matches("c.txt", "**/*.txt")
    assert not matches("c.txt", "*/*.txt")
    assert matches("set/train.csv", "*/tr[a-z]*.csv *.tsv")
    assert not matches("a.png.gz", "**/*.png")
    assert matches("a.TXT.gz", "**/*.txt", packed=True)
