"""What the scores say: the headline, its picture and its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from broadbase.adapt.few_labels import LABELS
from broadbase.demo.borrow import NAMES, SHOWN, SOUND_METHOD, TEXT_METHOD, Borrowed
from broadbase.demo.text_tasks import CONTAMINATED
from broadbase.evidence.few_labels import (
    FEATURES,
    OWN,
    PUBLISHED,
    RANDOM,
    Best,
    FewLabels,
    macro,
    mean_interval,
)
from broadbase.evidence.interval import Interval, paired_interval
from broadbase.report.few_labels import Lead
from broadbase.report.headline import Headline, Line, Panel, Point, Style

MOST = LABELS[-1]  # labels of each class that hand-made features have where the base has none
TITLES = {
    "genre": "kind of document",
    "subject": "exam subject",
    "package": "Python package",
    "speciality": "medical speciality",
    "who": "whom it is about",
    "where": "source of question",
    "bias": "kind of bias",
    "review": "film review",
    "letters": "spoken letter",
}
STYLES: Mapping[Style, str] = {
    "published": PUBLISHED,
    "own": OWN,
    "random": RANDOM,
    "features": FEATURES,
}


def headline(borrowed: Borrowed) -> tuple[str, str]:
    """Return the result in two sentences."""
    shown = [row for row in borrowed.text if row.labels == SHOWN]
    leads = [row.lead(TEXT_METHOD) for row in shown]
    means, words = _means(shown), "five" if SHOWN == 5 else str(SHOWN)
    above = sum(lead.above_zero for lead in leads)
    gap = paired_interval(means[PUBLISHED], means[FEATURES])
    own, random = mean_interval(means[OWN]), mean_interval(means[RANDOM])
    published, features = mean_interval(means[PUBLISHED]), mean_interval(means[FEATURES])
    first = (
        f"With {words} labels of each class, a frozen published base is above the best hand-made"
        f" features on {above} of {len(shown)} text tasks: mean accuracy {published.mean:.2f}"
        f" against {features.mean:.2f} ({gap.low:+.2f} to {gap.high:+.2f}); a base pretrained here"
        f" in minutes has {own.mean:.2f}, and random init {random.mean:.2f}."
    )
    named = list(_named(borrowed))
    ahead = sum(lead.gap.above_zero for lead in named)
    second = (
        f"With no label at all, from the names of the classes, it is above features that had"
        f" {MOST} labels of each class on {ahead} of {len(named)} tasks"
    )
    for row in borrowed.sound:
        if row.labels == SHOWN:
            score = row.of(PUBLISHED, SOUND_METHOD).mean
            second += (
                f"; spoken letters of languages that it never heard are named at {score:.2f} by a"
                f" speech base, and at {row.best(FEATURES).mean:.2f} by hand-made features"
            )
    return first, f"{second}."


def picture(borrowed: Borrowed) -> str:
    """Return the picture of the headline as SVG."""
    means = _means([row for row in borrowed.text if row.labels == SHOWN])
    names = {RANDOM: RANDOM, OWN: "our base", PUBLISHED: PUBLISHED}
    points = [
        Point(names[model], style, borrowed.flop[model], mean_interval(means[model]))
        for style, model in reversed(list(STYLES.items()))
        if model != FEATURES
    ]
    level = Point("hand-made features", "features", 0.0, mean_interval(means[FEATURES]))
    rows = (*borrowed.text, *borrowed.sound)
    panels = [_panel(name, [r for r in rows if r.task == name]) for name in _tasks(rows)]
    count = len(_tasks(borrowed.text))
    title = f"Accuracy with {SHOWN} labels of each class, {count} text tasks"
    return Headline(title, points, level, panels, (0, *LABELS)).draw()


def leads(borrowed: Borrowed, labels: Sequence[int]) -> list[Lead]:
    """Return the rows of the table; with 0 labels those of names against features with 20."""
    rows = list(_named(borrowed)) if 0 in labels else []
    for each in (n for n in labels if n):
        group = f"{each} labels of each class"
        for row in (row for row in (*borrowed.text, *borrowed.sound) if row.labels == each):
            methods = [TEXT_METHOD, SOUND_METHOD] if row in borrowed.text else [SOUND_METHOD]
            for method in methods:
                gap = row.lead(method)
                rows.append(_lead(group, row, row.of(PUBLISHED, method), row.best(FEATURES), gap))
    return rows


def table(borrowed: Borrowed) -> tuple[list[dict[str, str]], list[str], str]:
    """Return the rows, columns and title of the table on the terminal."""
    rows = [
        {
            "labels": lead.group.partition(" ")[0],
            "task": lead.task,
            **{name: f"{mean:.2f}" for name, mean in lead.others.items()},
            FEATURES: f"{lead.features.mean:.2f}",
            PUBLISHED: f"{lead.published.mean:.2f}",
            "method": lead.published.method,
            "lead": f"{lead.gap.mean:+.2f}",
            "95 %": f"{lead.gap.low:+.2f} {lead.gap.high:+.2f}",
        }
        for lead in leads(borrowed, (SHOWN, 0))
    ]
    columns = ["labels", "task", RANDOM, OWN, FEATURES, PUBLISHED, "method", "lead", "95 %"]
    return rows, columns, "accuracy with few labels of each class (* seen in part by the base)"


def _means(rows: Sequence[FewLabels]) -> dict[str, tuple[float, ...]]:
    """Return the mean over tasks of each model, by split."""
    means = {m: macro(row.best(m).scores for row in rows) for m in (OWN, RANDOM, FEATURES)}
    return means | {PUBLISHED: macro(row.of(PUBLISHED, TEXT_METHOD).scores for row in rows)}


def _named(borrowed: Borrowed) -> Iterator[Lead]:
    """Yield the base without labels against hand-made features with many."""
    most = {row.task: row.best(FEATURES) for row in borrowed.text if row.labels == MOST}
    for row in (row for row in borrowed.text if not row.labels):
        own, features = row.of(PUBLISHED, NAMES), most[row.task]
        gap = paired_interval(own.scores, features.scores)
        group = f"0 labels, from the names of the classes; hand-made features have {MOST} of each"
        yield _lead(group, row, own, features, gap)


def _lead(group: str, row: FewLabels, own: Best, features: Best, gap: Interval) -> Lead:
    others = {m: row.best(m).mean for m in (RANDOM, OWN) if m in row.scores}
    return Lead(group, _title(row.task), own, features, others, gap)


def _title(task: str) -> str:
    return f"{TITLES[task]}{'*' if task in CONTAMINATED else ''}"


def _tasks(rows: Sequence[FewLabels]) -> list[str]:
    return list(dict.fromkeys(row.task for row in rows))


def _panel(task: str, rows: Sequence[FewLabels]) -> Panel:
    """Return the lines of a task: the published base by its method, others at their best."""
    lines = dict[Style, Line]()
    for style, model in STYLES.items():
        lines[style] = [
            (row.labels, _shown(row, model).mean) for row in rows if model in row.scores
        ]
    return Panel(_title(task), lines)


def _shown(row: FewLabels, model: str) -> Best:
    if model != PUBLISHED:
        return row.best(model)
    fixed = (NAMES, TEXT_METHOD, SOUND_METHOD)
    return row.of(model, next(method for method in fixed if method in row.scores[model]))
