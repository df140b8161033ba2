"""The page as a reader and a browser see it: its words, that it is complete and stands alone."""

from __future__ import annotations

import base64
import io
import math
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from broadbase.adapt.result import RANDOM_INIT, TaskResult, compare_splits
from broadbase.core.errors import ResourceError
from broadbase.evidence.comparison import Comparison, Metric
from broadbase.evidence.few_labels import Best
from broadbase.evidence.interval import Interval
from broadbase.report.charts import heat
from broadbase.report.curves import Curve
from broadbase.report.few_labels import Lead
from broadbase.report.page import Report, made, page, render, write
from broadbase.report.samples import Picture, Text

VOID = {"meta", "img", "br", "link", "hr", "input"}
HOSTILE = '</script><script>alert(1)</script></pre></td><img src="http://x.y/z"> & \x00\x1b\ud800'


class Page(HTMLParser):
    """Reads a page strictly: every element is closed, and in the order in which it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []  # the innermost element, its text
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append((self.open[-1] if self.open else "", data))
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def text(self, tag: str = "") -> str:
        return "".join(words for inside, words in self.words if not tag or inside == tag)

    def drawn(self, tag: str, kind: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag and attrs.get("class") == kind]


ACCURACY, BITS = Metric("accuracy", "higher"), Metric("bits per byte", "lower")


def row(task: str, gains: tuple[float, ...], method: str = "probe", size: int = 100) -> TaskResult:
    scores = tuple(0.5 + gain for gain in gains)
    splits = len(gains)
    baselines = {"most frequent class": [0.25] * splits, RANDOM_INIT: [0.5] * splits}
    comparisons = compare_splits(task, ACCURACY, (size, 1000), scores, baselines)
    return TaskResult(task, method, ACCURACY, size, 1000, scores, comparisons)


def with_gap(result: TaskResult, *gap: float) -> TaskResult:
    changed = replace(result.random_init, gap=Interval(*gap))
    return replace(result, comparisons=(result.chance, changed))


def bits(source: str, model: float, baseline: str, other: float, low: float, high: float) -> Any:
    gap = Interval((low + high) / 2, low, high)
    return Comparison(source, BITS, baseline, 9, model, other, gap)


WIN = row("digit", (0.2, 0.21, 0.19))
LOSS = row("defect", (-0.1, -0.11, -0.09))
OPEN = row("topic", (0.1, -0.1, 0.02))


def report(**parts: Any) -> Report:
    usual = {"title": "A title", "parameters": 1_812_480, "seconds": 151.0, "tasks": [WIN]}
    return Report(**{**usual, **parts})


def lead(task: str, group: str, *gap: float, **others: float) -> Lead:
    published, features = Best(f"of {task}", (0.8, 0.6)), Best("words", (0.5, 0.5))
    return Lead(group, task, published, features, others, Interval(*gap))


def full(word: str = "plain") -> Report:
    """A report with every part filled, `word` wherever a caller's text can be."""
    steps = [(float(s), 2 + 6 * math.exp(-s / 30)) for s in range(1, 301)]
    features = replace(LOSS.random_init, baseline=word, metric=Metric(word, "higher"))
    return report(
        title=f"Of {word}",
        lead=f"Of {word}",
        leads=[lead(word, word, 0.2, 0.1, 0.3, **{word: 0.4})],
        more_leads=[lead(word, word, 0.2, 0.1, 0.3)],
        models=(word,),
        notes=f"Of {word}",
        commands=[(word, word)],
        predictions=[(word, word, word)],
        tasks=[
            WIN,
            replace(
                LOSS,
                task=word,
                method=word,
                metric=Metric(word, "higher"),
                comparisons=(*LOSS.comparisons, features),
            ),
            OPEN,
        ],
        curves=[Curve(word, word, steps, steps[::60], {word: 4.4, "5-gram, tokens seen": 2.3})],
        likelihoods=[
            replace(bits(word, 2.1, word, 4.4, -2.4, -2.2), metric=Metric(word, "lower")),
            bits("code", 2.0, "5-gram", 1.9, 0.05, 0.15),
        ],
        texts=[Text(word, word, word), Text(word, word, word, code=True)],
        pictures=[Picture(word, np.eye(4))],
        facts={word: word},
    )


@pytest.mark.parametrize(
    "word", ["plain", HOSTILE, "$headline ${bits} {0} %s", "a\r\nb\u202ec" * 30]
)
def test_page_is_well_formed_and_stands_alone(word: str) -> None:
    text = render(full(word))
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs), tag
        for name in ("src", "href", "xlink:href", "data", "srcset", "style"):
            assert (attrs.get(name) or "data:").startswith("data:"), (tag, attrs)
    assert not re.search(r"url\(|@import|http", page.text("style"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f]", text)
    text.encode("utf-8")


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_text_is_only_text(word: str) -> None:
    """No text of a caller changes which elements the page is made of."""
    plain = [tag for tag, _ in Page(render(full())).tags]
    assert [tag for tag, _ in Page(render(full(word))).tags] == plain


def test_samples_show_what_the_model_wrote() -> None:
    words = "if a < b && c:\n\treturn '</pre>'\x07"
    page = Page(render(report(texts=[Text("code", "def f():\n", words, code=True)])))
    assert words.replace("\x07", "\u2407") in page.text("pre")
    assert page.drawn("pre", "code")
    assert not Page(render(report(texts=[Text("prose", "a", "b")]))).drawn("pre", "code")


def test_every_row_is_there_with_its_verdict() -> None:
    page = Page(render(report(tasks=[WIN, LOSS, OPEN])))
    rows = {cells[0].split()[0]: cells for cells in page.rows[1:]}
    assert {task: cells[-1] for task, cells in rows.items()} == {
        "digit": "better",
        "defect": "worse",
        "topic": "undecided",
    }
    assert rows["defect"][1:5] == ["100", "25.0", "50.0", "40.0"]
    assert rows["defect"][7].replace("\u2212", "-") == "-10.0 [-12.5, -7.5]"


def test_leads_are_rows_in_parts_with_their_verdicts() -> None:
    rows = [
        lead("genre", "5 labels", 0.2, 0.1, 0.3, own=0.25),
        lead("review", "5 labels", -0.1, -0.2, -0.05),
        lead("who", "no labels", 0.0, -0.1, 0.1),
    ]
    page = Page(render(report(tasks=[], leads=rows, models=["own"], notes="A note.")))
    assert [cells[0] for cells in page.rows] == [
        "Task", "5 labels", "genre", "review", "no labels", "who",
    ]  # fmt: skip
    assert page.rows[2][1:4] == ["0.25", "0.50 words", "0.70 of genre"]
    assert page.rows[3][1] == ""
    assert [cells[-1] for cells in page.rows if len(cells) > 1][1:] == [
        "better", "worse", "undecided",
    ]  # fmt: skip
    assert "A note." in page.text("p")


def test_commands_are_shown_as_they_are_pasted() -> None:
    page = Page(render(report(commands=[("broadbase predict a --data 'b c'", "printed <this>")])))
    assert "broadbase predict a --data 'b c'" in page.text("b")
    assert "printed <this>" in page.text("pre")


def test_bits_say_which_way_they_point() -> None:
    rows = [
        bits("prose", 2.1, "unigram", 4.4, -2.4, -2.2),
        bits("prose", 2.1, "5-gram", 2.2, -0.3, 0.1),
        bits("prose", 2.1, "full split", 1.9, 0.1, 0.3),
    ]
    page = Page(render(report(likelihoods=rows)))
    cells = page.rows[-4:]
    assert cells[0] == ["prose: the model needs 2.100 bits per byte"]
    assert [row[0] for row in cells[1:]] == ["unigram", "5-gram", "full split"]
    assert [row[-1] for row in cells[1:]] == ["fewer bits", "undecided", "more bits"]
    assert "fewer bits than 1 of 3 baselines, more than 1 and is undecided on 1." in page.text("p")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([WIN], "without labels, beats the same model from random initialisation on 1 of 1 task."),
        ([WIN, replace(WIN, task="other")], "on 2 of 2 tasks."),
        ([WIN, LOSS, OPEN], "on 1 of 3 tasks, loses on 1 and is undecided on 1."),
        ([LOSS, OPEN], "on none of 2 tasks, loses on 1 and is undecided on 1."),
        ([LOSS], "on none of 1 task and loses on 1."),
        ([WIN, row("digit", (0.1, -0.1), "fine-tuned")], "1 of 2 comparisons on 1 task and is"),
        ([with_gap(WIN, 0.2, 0.0, 0.3)], "on none of 1 task and is undecided on 1."),
        ([with_gap(WIN, 0.2, math.nan, 0.3)], "on none of 1 task and is undecided on 1."),
        ([], "was tried on no task."),
    ],
)
def test_what_was_made_counts_only_intervals_above_zero(rows: list[TaskResult], words: str) -> None:
    sentence = made(report(tasks=rows))
    assert words in sentence
    assert sentence.startswith(
        "One model of 1.8 M parameters, pretrained 2.5 minutes without labels,"
    )
    page = Page(render(report(tasks=rows)))
    assert sentence in page.text("p")
    assert page.text("h1") == "A title"


@pytest.mark.parametrize(
    ("parameters", "seconds", "words"),
    [(900, 45, "900 parameters, pretrained 45 s"), (3 * 10**9, 9000, "3.0 B .* 2.5 hours")],
)
def test_what_was_made_has_fitting_units(parameters: int, seconds: float, words: str) -> None:
    assert re.search(words, made(report(parameters=parameters, seconds=seconds)))


def test_whiskers_share_one_scale_and_one_zero() -> None:
    text = render(report(tasks=[WIN, LOSS, with_gap(OPEN, 0.0, -9.0, 9.0)]))
    zeros = re.findall(r'class="zero" d="M([\d.]+)', text)
    assert len(zeros) == 3
    assert len(set(zeros)) == 1
    whiskers = [tuple(map(float, w)) for w in re.findall(r'd="M([\d.]+) 12H([\d.]+)"', text)]
    zero = float(zeros[0])
    (low, high), (worse_low, worse_high), (wide_low, wide_high) = whiskers
    assert worse_low < worse_high < zero < low < high
    assert wide_low < zero < wide_high
    assert (high - low) > 2  # not pressed flat by the impossible interval


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_never_printed_or_drawn(bad: float) -> None:
    points = [(0.0, 8.0), (1.0, bad), (2.0, 3.0), (bad, 2.0)]
    text = render(
        report(
            tasks=[with_gap(WIN, bad, bad, bad)],
            curves=[Curve("prose", "byte", points, points, {"unigram": bad})],
            likelihoods=[bits("prose", bad, "b", bad, bad, bad)],
            pictures=[Picture("bad", np.full((2, 2), bad))],
        )
    )
    assert not re.search(r"(?i)\b(nan|inf|infinity)\b", Page(text).text())
    for tag, attrs in Page(text).tags:
        numbers = [attrs.get(name) or "" for name in ("d", "x", "y", "cx", "cy", "width")]
        assert not re.search("nan|inf", "".join(numbers)), (tag, attrs)
    assert [cells[-1] for cells in Page(text).rows if len(cells) == 9][1:] == ["undecided"]


def test_curves_draw_model_and_baselines_by_name() -> None:
    training = [(float(s), 2 + math.sin(s)) for s in range(1, 2001)]
    curve = Curve("prose", "byte", training, [(1000.0, 2.2), (2000.0, 2.125)], {"unigram": 4.4})
    page = Page(render(report(curves=[curve])))
    (line,) = page.drawn("path", "own")
    assert 50 <= (line["d"] or "").count("L") + 1 <= 200  # smoothed, hence thin
    assert len(page.drawn("circle", "own")) == 2
    assert len(page.drawn("path", "base")) == 1
    for words in ("unigram", "held out", "training", "2,000 steps"):
        assert words in page.text("text")
    assert {"4.40", "2.12"} <= {w for tag, w in page.words if tag == "tspan"}


def test_scores_are_drawn_over_the_logarithm_of_labels() -> None:
    """Twice the labels are one step to the right, wherever; a task tried once has no figure."""
    at = [(50, 0.3), (100, 0.4), (200, 0.45)]
    rows = [row("digit", (v - 0.5,) * 3, size=n) for n, v in at]
    page = Page(render(report(tasks=[*rows, OPEN])))
    dots = [(float(a["cx"] or 0), float(a["cy"] or 0)) for a in page.drawn("circle", "own")]
    assert len(dots) == 3
    assert np.diff([x for x, _ in dots], 2) == pytest.approx(0, abs=0.2)
    rises = -np.diff([y for _, y in dots])
    assert rises[0] / rises[1] == pytest.approx(2, rel=0.02)
    assert "random init" in page.text("text")
    assert page.text("figcaption").count("accuracy, probe") == 1


def test_a_steep_start_does_not_flatten_the_rest_and_is_mentioned() -> None:
    training = [(float(s), 8.0 if s < 30 else 2.0) for s in range(1, 1001)]
    page = Page(render(report(curves=[Curve("prose", "byte", training)])))
    assert "falling from 8.0" in page.text("small")


def test_names_of_equal_baselines_do_not_overlap() -> None:
    lines = {f"baseline {i}": 2.0 for i in range(6)} | {"low": 1.0}
    page = Page(
        render(report(curves=[Curve("prose", "byte", [(0.0, 3.0), (9.0, 2.0)], (), lines)]))
    )
    kinds = ("base", "own")
    heights = sorted(float(a["y"] or 0) for k in kinds for a in page.drawn("text", k))
    assert len(heights) == 8
    assert min(np.diff(heights)) >= 14


@pytest.mark.parametrize(
    ("training", "held_out", "lines", "shapes"),
    [
        ([], [], {}, (0, 0, 0)),
        ([], [], {"unigram": 4.4}, (0, 0, 1)),
        ([(0.0, 8.0)], [], {}, (1, 0, 0)),
        ([], [(0.0, 8.0)], {}, (0, 1, 0)),
        ([(7.0, 2.0)], [(7.0, 2.0)], {"same": 2.0}, (1, 1, 1)),
        ([(1.0, 0.0), (2.0, 0.0)], [], {}, (1, 0, 0)),
    ],
)
def test_curves_of_hardly_any_points(
    training: list[tuple[float, float]],
    held_out: list[tuple[float, float]],
    lines: dict[str, float],
    shapes: tuple[int, int, int],
) -> None:
    page = Page(render(report(curves=[Curve("prose", "byte", training, held_out, lines)])))
    drawn = (("path", "own"), ("circle", "own"), ("path", "base"))
    assert tuple(len(page.drawn(*kind)) for kind in drawn) == shapes
    # a path of one place is drawn only where it has a segment, if one of no length
    assert all(re.search("[Lh]", line["d"] or "") for line in page.drawn("path", "own"))
    assert ("nothing was recorded" in page.text("figcaption")) == (sum(shapes) == 0)


def test_a_heat_map_writes_and_shades_every_cell() -> None:
    rows = {"0": [0.0, 0.5], "<1>": [1.0, math.nan]}
    html = page("Needles", [heat("prose", rows, ["256", "1024"], ("depth", "length"))])
    read = Page(html)
    shades = [float(cell["fill-opacity"] or 0) for cell in read.drawn("rect", "own")]
    assert shades == [0.0, 0.3, 0.6, 0.0]
    assert [w for tag, w in read.words if tag == "tspan"] == ["0.00", "0.50", "1.00", "unknown"]
    assert {"256", "1024", "length", "<1>"} <= {w for tag, w in read.words if tag == "text"}
    assert "<title>Needles</title>" in html


@pytest.mark.parametrize("shape", [(8, 8), (8, 6, 1), (4, 8, 3), (200, 150)])
def test_pictures_keep_their_pixels_and_are_enlarged(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).random(shape)
    page = Page(render(report(pictures=[Picture("a <b>", pixels)])))
    ((_, attrs),) = [t for t in page.tags if t[0] == "img"]
    kind, _, data = (attrs["src"] or "").partition(",")
    assert kind == "data:image/png;base64"
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    np.testing.assert_array_equal(seen, np.rint(255 * pixels.squeeze()))
    times = int(attrs["width"] or 0) / shape[1]
    assert times == int(attrs["height"] or 0) / shape[0] == max(1, 112 // max(shape[:2]))
    assert attrs["alt"] == "a <b>"
    assert "image-rendering: pixelated" in page.text("style")


def test_parts_without_data_are_left_out_and_the_rest_is_in_order() -> None:
    heads = re.findall(r"<h[23]>(.*?)</h[23]>", render(full()))
    assert heads == [
        "1. Make one",
        "Pictures and molecules",
        "Bits per unit",
        "Learning curves",
        "Samples",
        "2. Borrow one",
        "3. Use it",
        "Facts",
        "How to read this",
    ]
    bare = render(Report("A title", 10, 1.0, []))
    assert re.findall(r"<h[23]>(.*?)</h[23]>", bare) == ["1. Make one", "How to read this"]
    assert "<table" not in bare
    Page(bare)


def test_the_same_report_gives_the_same_page(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write(path, full(HOSTILE))
    assert path.read_bytes() == render(full(HOSTILE)).encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"missing/report\.html cannot be written: No such"):
        write(tmp_path / "missing" / "report.html", full())
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing_half_done(tmp_path: Path) -> None:
    """Here the page is written beside and cannot be put in place, as a folder has its name."""
    (tmp_path / "report.html").mkdir()
    with pytest.raises(ResourceError, match="cannot be written"):
        write(tmp_path / "report.html", full())
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ResourceError, match="cannot be written"):
        write(tmp_path / "file" / "report.html", full())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "report.html"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_full_disk_keeps_the_last_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    write(path, report())
    before = path.read_bytes()

    def half(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(ResourceError, match=r"No space left on device; .*free space"):
        write(path, full())
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ResourceError, match="Permission denied"):
        write(tmp_path / "report.html", full())
    assert not list(tmp_path.iterdir())
