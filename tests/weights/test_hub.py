"""`import OWNER/NAME` through the real client of the hub, from a server on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from broadbase.weights.folder import load
from support.llava import photo, published
from support.parity import close
from support.programs import BROADBASE, run
from support.references import llama, saved

TOKEN = "hf_of_one_who_accepted"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Folders served under names, and what was asked of them."""

    folders: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)  # files that are listed and not there
    requested: list[str] = field(default_factory=list)
    address: str = ""

    def at(self, folder: Path) -> str:
        return next(name for name, given in self.folders.items() if given == folder)

    @property
    def fetched(self) -> set[str]:
        """Files whose bytes were sent."""
        requested = [
            path for path in self.requested if path.startswith("GET") and "/resolve/" in path
        ]
        return {path.rpartition("/resolve/")[2].partition("/")[2] for path in requested}


class Handler(BaseHTTPRequestHandler):
    """The routes that huggingface_hub asks: a repository's commit, its tree, its files."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.requested.append(f"{self.command} {path}")
        parts = path.strip("/").removeprefix("api/models/").split("/")
        name = "/".join(parts[:2])
        folder = self.hub.folders.get(name)
        if folder is None:
            self.answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif "/resolve/" in path and name in self.hub.gated and not self.given():
            self.answer(401, b"", {"X-Error-Code": "GatedRepo"})
        elif "/resolve/" in path:
            self.file(folder, "/".join(parts[4:]))
        elif "/tree/" in path:
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            self.json([self.entry(folder, file) for file in files])
        else:
            names = [str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()]
            siblings = [{"rfilename": n} for n in names]
            self.json({"id": name, "sha": COMMIT, "siblings": siblings, "private": False})

    def given(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def entry(self, folder: Path, file: Path) -> dict[str, Any]:
        name, size = str(file.relative_to(folder)), file.stat().st_size
        return {"type": "file", "path": name, "size": size, "oid": digest(file)[:40]}

    def file(self, folder: Path, name: str) -> None:
        if f"{self.hub.at(folder)}/{name}" in self.hub.lost or not (folder / name).is_file():
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        tags = {"ETag": f'"{digest(folder / name)}"', "X-Repo-Commit": COMMIT}
        self.answer(200, (folder / name).read_bytes(), tags)

    def json(self, content: Any) -> None:
        self.answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def hub() -> Iterator[Hub]:
    served = Hub()
    handler = type("Served", (Handler,), {"hub": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def python(hub: Hub, home: Path, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, whose client knows no hub but this and keeps what it fetches here."""
    given = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    env = {**given, "HF_HOME": str(home), "HF_ENDPOINT": hub.address, **more}
    return run(*map(str, words), env=env)


ASK = """
import json, sys
from broadbase.core.errors import BroadbaseError
from broadbase.weights.folder import load
from broadbase.weights.hub import folder_of
said = {}
for place in sys.argv[1:]:
    try:
        load(folder_of(place))
    except BroadbaseError as error:
        said[place] = [type(error).__name__, str(error)]
print(json.dumps(said))
"""


def refused(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """The errors that ASK met, by place; anything else fails."""
    assert done.returncode == 0, done.stderr
    return {place: tuple(error) for place, error in json.loads(done.stdout).items()}


def test_what_is_named_is_fetched_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    """A LLaVA with its processor; the second time without a network."""
    served, home = tmp_path / "served", tmp_path / "home"
    reference, taken = published("llava", served)
    wanted = {str(file.relative_to(served)) for file in served.iterdir()}
    (served / "onnx").mkdir()
    for spare in (
        "README.md",
        "modeling_own.py",
        "pytorch_model.bin",
        "consolidated.safetensors",
        "onnx/model.safetensors",
        "onnx/config.json",
    ):
        (served / spare).write_bytes(b"not this")
    hub.folders["owner/llava"] = served
    words = ("import", "owner/llava", "--to", tmp_path / "ours", "--json")
    done = python(hub, home, BROADBASE, *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["type"] == "llava"
    assert hub.fetched == wanted
    for path in hub.requested:
        route = path.split(" ")[1]
        assert route.startswith(("/api/models/owner/llava/", "/owner/llava/resolve/")), path
    text, seen = "w5 <image> w7", [photo(31, 24)]
    with torch.no_grad():
        expected = reference(**taken(images=seen, text=text, return_tensors="pt")).logits[0]
    assert close(load(tmp_path / "ours").logits(text, attachments=seen), expected)
    hub.requested.clear()
    assert refused(python(hub, home, ASK, "owner/llava", HF_HUB_OFFLINE="1")) == {}
    assert not hub.requested


def test_what_the_hub_does_not_give_is_named(hub: Hub, tmp_path: Path) -> None:
    saved(lambda: llama(num_hidden_layers=1), tmp_path / "whole")
    for name in ("gated", "lost", "bare", "pickled", "empty"):
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        hub.folders[f"owner/{name}"] = tmp_path / name
    hub.gated.add("owner/gated")
    hub.lost.add("owner/lost/model.safetensors")
    (tmp_path / "bare" / "config.json").unlink()
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "empty" / "model.safetensors").unlink()
    positions = [*hub.folders, "owner/none", "no/such/name"]
    done = python(hub, tmp_path / "home", ASK, *positions)
    said = refused(done)
    hub_says = {
        "owner/gated": "gated: accept its terms.*hf auth login",
        "owner/none": "mend the name; if it is private, log in",
        "owner/lost": "its owner has to mend it.*model.safetensors",
        "owner/bare": r"has no config\.json; name another",
        "owner/pickled": r"has no \*\.safetensors; pytorch_model\.bin can run code: convert, with",
        "owner/empty": r"has no \*\.safetensors; name another",
    }
    for place, message in hub_says.items():
        kind, error = said.pop(place)
        assert kind == "DataError"
        assert error.startswith(place)
        assert re.search(message, error), error
    assert said.pop("no/such/name")[0] == "ConfigError"
    assert not said
    assert "pytorch_model.bin" not in hub.fetched
    again = python(hub, tmp_path / "home", ASK, "owner/gated", HF_TOKEN=TOKEN)
    assert refused(again) == {}


def test_without_a_network_it_is_reported_how_to_go_on(hub: Hub, tmp_path: Path) -> None:
    """Offline by the client's own switch, and a server that is not there."""
    hub.folders["owner/llama"] = tmp_path
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for more in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": nobody}):
            done = python(hub, tmp_path / "home", ASK, "owner/llama", **more)
            kind, error = refused(done)["owner/llama"]
            assert kind == "DataError"
            assert error.startswith("owner/llama is no folder here")
            assert "fetch it where there is a network (`hf download`)" in error
    assert not hub.requested
