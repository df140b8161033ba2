"""The picture of the demo as an SVG reader sees it."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from broadbase.evidence.interval import Interval
from broadbase.report.headline import DARK, LIGHT, Headline, Panel, Point

SVG = "{http://www.w3.org/2000/svg}"
POINTS = (
    Point("random", "random", 0.0, Interval(0.3, 0.28, 0.32)),
    Point("ours", "own", 1e13, Interval(0.4, 0.38, 0.42)),
    Point("halfway", "own", 1e16, Interval(0.5)),
    Point("published", "published", 1e19, Interval(0.7, 0.69, 0.71)),
)
LEVEL = Point("features <hand-made>", "features", 0.0, Interval(0.45, 0.44, 0.46))
PANELS = [
    Panel("genre", {"published": [(0, 0.5), (2, 0.7), (5, 1.0)], "features": [(2, 0.2), (5, 0.4)]}),
    Panel("letter & sound", {"published": [(2, 0.1)]}),
]
PICTURE = Headline("Accuracy", POINTS, LEVEL, PANELS, (0, 2, 5))


def drawn(picture: Headline) -> ElementTree.Element:
    return ElementTree.fromstring(picture.draw())


def dots(picture: Headline) -> list[tuple[float, float]]:
    """The centres of the large dots, those of models on the axis of pretraining."""
    circles = drawn(picture).iter(f"{SVG}circle")
    return [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in circles if c.attrib["r"] == "6"]


def test_equal_factors_of_flop_are_equal_steps_and_scores_go_up() -> None:
    at = dots(PICTURE)
    assert len(at) == 4
    assert at[2][0] - at[1][0] == pytest.approx(at[3][0] - at[2][0], abs=0.2)
    heights = np.array([y for _, y in at])
    scores = np.array([point.score.mean for point in POINTS])
    slope = (heights[0] - heights[-1]) / (scores[-1] - scores[0])
    np.testing.assert_allclose(heights, heights[0] - slope * (scores - scores[0]), atol=0.2)


def test_the_line_of_features_is_between_the_models_that_it_is_between() -> None:
    (line,) = [
        path.attrib["d"]
        for group in drawn(PICTURE).iter(f"{SVG}g")
        if group.attrib["class"] == "features"
        for path in group.iter(f"{SVG}path")
        if "H" in path.attrib["d"] and group.find(f"{SVG}text") is not None
    ]
    height = float(re.findall(r"[\d.]+", line)[1])
    assert dots(PICTURE)[2][1] < height < dots(PICTURE)[1][1]


def test_words_are_escaped_and_everything_is_inside_the_frame() -> None:
    root = drawn(PICTURE)
    words = "".join(root.itertext())
    assert "features <hand-made>" in words
    assert "letter & sound" in words
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for element in root.iter():
        for name, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= most, element.attrib


def test_a_panel_has_a_dot_for_each_score_of_the_published_base() -> None:
    small = [c for c in drawn(PICTURE).iter(f"{SVG}circle") if c.attrib["r"] == "3"]
    assert len(small) == 4
    assert float(small[2].attrib["cy"]) < float(small[0].attrib["cy"])  # 1.0 is above 0.5


def test_both_colour_schemes_are_there_and_an_unknown_interval_is_not_drawn() -> None:
    text = replace(PICTURE, points=POINTS).draw()
    assert "prefers-color-scheme: dark" in text
    assert set(LIGHT) == set(DARK)
    assert all(colour in text for colour in (*LIGHT.values(), *DARK.values()))
    assert "$" not in text
    assert "None" not in text
