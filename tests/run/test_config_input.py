"""Settings of any kind are taken, or refused by a short message: nothing else, and at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broadbase.core.config import override
from broadbase.core.errors import ConfigError
from broadbase.core.sources import SourceConfig
from broadbase.core.trees import RefusedError, parsed, read_tree
from broadbase.data.detect import named
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from support.paths import GOLDEN

GOLDEN = sorted(GOLDEN.glob("*.yaml"))
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)
MERGED = LAUGHS.replace("[x, x]", "{x: 1}").replace("[", "{<<: [").replace("]", "]}")

FILES: dict[str, tuple[bytes, str]] = {
    "brackets": (b"[" * 200_000, "nested deeper than 50 levels"),
    "braces": (b"{a: " * 50_000, "nested deeper than 50 levels"),
    "aliases": (LAUGHS.encode(), "more than 50,000 values"),
    "a loop": (b"a: &a [*a]", "an alias of what it stands in"),
    "merged": (MERGED.encode(), "more than 50,000 values"),
    "twice": (b"seed: 1\ndepth: 2\nseed: 3\n", r"the key 'seed' is given twice, at line 3 again"),
    "latin1": ("recipe: café".encode("latin1"), r"is not UTF-8 at byte 11 \(0xe9\); convert it"),
    "a NUL": (b"recipe: a\0b", "special characters are not allowed"),
    "nothing": (b"", "holds nothing, not a config"),
    "a list": (b"- 1", "holds a list, not a config"),
    "code": (b"!!python/object/apply:os.system ['true']", "could not determine a constructor"),
    "a date": (b"seed: 2001-99-99", "month must be in 1..12"),
    "digits": (b"seed: " + b"9" * 5000, "Exceeds the limit"),
    "large": (b"# " + b"x" * (1 << 20), "more than 1 MiB"),
    "numbers as keys": (b"1: 2\n", "Keys should be strings|Field required"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_files(kind: str, tmp_path: Path) -> None:
    content, message = FILES[kind]
    (tmp_path / "c.yaml").write_bytes(content)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=message) as result:
        RunConfig.read(tmp_path / "c.yaml")
    assert time.monotonic() - began < 3
    assert len(str(result.value)) <= 700
    with pytest.raises(ConfigError):
        named(f"source:{tmp_path / 'c.yaml'}")


def test_files_that_are_none(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path, "is not a file"),
        (tmp_path / "no.yaml", "No such file"),
        (Path("/dev/zero"), "is not a file"),
        (Path("a\0b"), "null"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_tree(path, "a config")


def test_what_yaml_is_for_stays(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("\ufeffa: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n", "utf-8")
    result = read_tree(tmp_path / "c.yaml", "a config")
    assert result == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}
    with pytest.raises(RefusedError):
        parsed("{a: 1, a: 2}")


@cache
def tree(name: str = "text") -> dict[str, Any]:
    return find_recipe(name).build(1, "x").tree()


TEXTS = ("**/*.gz", "*.txt", "*a", "[ab]*.txt", "{", "[", "`x`", "%d", "@x", "\t", "!x", "a: b: c",
         "- x", "**/*.{txt,md}", "x\x1b[2J", "!!python/name:os.system")  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_no_yaml_is_text(text: str) -> None:
    path = "data.sources.text.source.pattern"
    changed = override(tree(), f"{path}={text}")
    assert changed["data"]["sources"]["text"]["source"]["pattern"] in (text, parsed_or(text))
    with pytest.raises(ConfigError, match=r"`train\.steps`") as result:
        RunConfig.from_tree(override(tree(), f"train.steps={text}"))
    assert len(str(result.value)) <= 600


def parsed_or(text: str) -> Any:
    try:
        return parsed(text)
    except ValueError:
        return text


SETTINGS: dict[str, tuple[str, str]] = {
    "betas": ("optim.betas.0=1000", r"`optim\.betas\.0`: .*less than 1"),
    "no layers": ("model.towers.main.layers=[]", r"layers`: .*at least 1 item"),
    "many layers": ("model.towers.main.layers.0.repeat=1000000000", "less than or equal to 256"),
    "no tower": ("objective.tower=mian", r"objective\.tower: the model has no tower 'mian'; did"),
    "at": ("model.tower_of={text: x}", r"tower_of\.text: no tower is called 'x'"),
    "wide": ("model.towers.main.width=1000000000000000000", "no model can be built"),
    "heads": ("model.towers.main.layers.0.block.attention.heads=-3", "greater than or equal to 1"),
    "groups": ("model.towers.main.layers.0.block.attention.kv_heads=7", "multiple of kv_heads 7"),
    "no pairs": ("model.towers.main.layers.0.block.attention.head_dim=3", "and head_dim is 3"),
    "more than 64 bits": ("seed=99999999999999999999", r"`seed`: .*larger than 2\*\*63"),
    "a NUL": (r'data.store="a\0b"', r"`data\.store`: .*a character that no text has"),
    "half a character": (r'data.store="\ud800"', r"`data\.store`: .*a character that no text has"),
    "a path as a name": ("data.sources={../x: {}}", r"data\.sources\.\.\./x"),
    "depth": (f"train.steps={'[' * 5000}", "nested deeper than 50 levels"),
    "twice": ("data.sources={a: 1, a: 2}", "given twice"),
    "no list": ("model.towers.main.layers.²=1", r"layers` has no field '²'"),
    "inside a value": ("seed.x=1", r"`seed` has no field 'x'"),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings(kind: str) -> None:
    setting, message = SETTINGS[kind]
    with pytest.raises(ConfigError, match=message) as result:
        RunConfig.from_tree(override(tree(), setting))
    assert len(str(result.value)) <= 600


def test_unknown_fields_in_lists_and_next_to_values() -> None:
    changed = deepcopy(tree())
    changed["model"]["towers"]["main"]["layers"][0]["x"] = 1
    with pytest.raises(ConfigError, match=r"unknown field `.*main\.layers\.0\.x`.*repeat"):
        RunConfig.from_tree(changed)
    changed["model"]["towers"]["main"]["layers"][0] = 3
    changed["optim"]["betas"] = {"x": 1}
    changed["seed"] = {"y": {"z": 1}}
    with pytest.raises(ConfigError, match=r"layers\.0"):
        RunConfig.from_tree(changed)


def test_a_mixture_names_the_tower_that_is_missing() -> None:
    changed = find_recipe("mixed").build(1, None).tree()
    changed["objective"]["components"]["next"]["objective"]["tower"] = "other"
    with pytest.raises(
        ConfigError, match=r"objective\.components\.next\.objective\.tower: .*'other'"
    ):
        RunConfig.from_tree(changed)


def test_long_values_make_short_messages() -> None:
    changed = deepcopy(tree())
    changed["y" * 3000] = "x" * 10_000
    changed["optim"] = {"name": "z" * 10_000}
    changed["model"]["towers"]["main"]["layers"] *= 500
    changed["model"]["modalities"] = "v" * 10_000
    with pytest.raises(ConfigError) as result:
        RunConfig.from_tree(changed)
    assert len(str(result.value)) <= 600


def positions(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else ()
    for key, each in enumerate(value) if isinstance(value, list) else inside:
        yield from positions(each, (*path, key))


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.integers(), st.floats(), st.text(max_size=9),
    st.sampled_from([10**9, 10**15, 2**63, "auto", "causal", "x" * 5000, [], {}, [[]], [None]]),
    st.dictionaries(st.sampled_from(["", "name", "x.y", "a"]), st.sampled_from([1, "x", None])),
    st.dates(), st.binary(max_size=3),
)  # fmt: skip
YAML = st.one_of(
    st.text(max_size=12),
    st.text("[]{}&*!|>'\"%@`#-:?, \t\x1b0123456789eE.~", max_size=12),
    st.sampled_from(
        ["[" * 3000, "{a: " * 3000, "9" * 5000, "1e400", ".nan", "!!set {a}", "=", "<<"]
    ),
)


@st.composite
def changed(draw: st.DrawFn) -> tuple[dict[str, Any], str | None]:
    """A recipe's tree with a field changed, removed, added or copied; or with a --set."""
    result = deepcopy(yaml.safe_load(draw(st.sampled_from(GOLDEN)).read_text()))
    path = draw(st.sampled_from(list(positions(result))))
    parent: Any = result
    for key in path[:-1]:
        parent = parent[key]
    match draw(st.sampled_from(["set", "change", "change", "remove", "add", "copy"])):
        case "set":
            return result, f"{'.'.join(map(str, path))}={draw(YAML)}"
        case "change":
            parent[path[-1]] = draw(VALUES)
        case "remove":
            del parent[path[-1]]
        case "add" if isinstance(parent, dict):
            parent[draw(st.sampled_from(["x", "", "name", "lr", 1, None, "a/b", "keys"]))] = draw(
                VALUES
            )
        case "add":
            parent.append(draw(VALUES))
        case "copy":
            parent[path[-1]] = deepcopy(result[draw(st.sampled_from(sorted(result)))])
    return result, None


def taken_or_refused(case: tuple[dict[str, Any], str | None], folder: Path) -> None:
    """Read as the command line reads it, and built without memory; what is refused is so soon."""
    result, setting = case
    began, refusal = time.monotonic(), ""
    try:
        config = RunConfig.from_tree(override(result, setting) if setting else result)
        config.objective.build()
        (folder / "c.yaml").write_text(config.yaml(), encoding="utf-8")
        assert RunConfig.read(folder / "c.yaml") == config
    except ConfigError as error:
        refusal = str(error)
    assert len(refusal) <= 600
    assert time.monotonic() - began < 20


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=changed())
def test_mutations(case: tuple[dict[str, Any], str | None], tmp_path: Path) -> None:
    taken_or_refused(case, tmp_path)


@pytest.mark.slow
@settings(max_examples=2500, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=changed())
def test_many_mutations(case: tuple[dict[str, Any], str | None], tmp_path: Path) -> None:
    taken_or_refused(case, tmp_path)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.one_of(st.binary(max_size=60), YAML.map(lambda t: t.encode("utf-8", "replace"))))
def test_files_of_any_bytes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError):
        RunConfig.read(tmp_path / "c.yaml")
    with pytest.raises(ConfigError):
        SourceConfig.from_tree(read_tree(tmp_path / "c.yaml", "a source"))
