"""A run as a page shows it: the studio while it trains, and a file that needs no server later."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broadbase.evidence.comparison import Comparison
from broadbase.report.charts import escape, number
from broadbase.report.curves import Curve, curve
from broadbase.report.page import STYLE, write_page
from broadbase.report.rows import interval
from broadbase.run.details import Sample, Source, config_text, environment, samples, sources
from broadbase.run.evaluation import read
from broadbase.run.journal import History
from broadbase.run.summary import Summaries, Summary

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
WORDS = {
    "training": "It trains now.",
    "finished": "It took all its steps.",
    "stopped": "It was stopped, and can be resumed.",
    "crashed": "It ended with an error.",
}


@dataclass(frozen=True)
class RunView:
    """All that is shown of a run."""

    summary: Summary
    journal: History
    sources: Sequence[Source]
    comparisons: Sequence[Comparison]
    samples: Sequence[Sample]
    environment: Mapping[str, str]
    config: str

    @classmethod
    def of(cls, folder: Path, summaries: Summaries, journal: History) -> RunView:
        """Read a run; its journal from where it was read to."""
        journal.update()
        summary = summaries.of(folder)
        return cls(
            summary,
            journal,
            sources(folder, summary.head),
            read(folder),
            samples(folder),
            environment(folder),
            config_text(folder),
        )

    def facts(self) -> dict[str, str]:
        """Return how far the run is and what it took, in words."""
        run, journal = self.summary, self.journal
        left = run.seconds_left
        return {
            "Recipe": run.head.recipe,
            "Objective": run.head.objective,
            "Data": ", ".join(run.head.sources),
            "Step": f"{journal.step:,} of {run.head.steps:,}",
            "Rate": f"{journal.rate:,.0f} tokens a second, over the last steps",
            **({} if left is None else {"Time left": f"{duration(left)}, without evaluations"}),
            "Cost": f"{duration(journal.seconds)} of training, {journal.tokens:,.0f} tokens",
        }

    def figures(self) -> Iterator[str]:
        """Yield the curve of every term, and that of the gradient's norm."""
        units = {source.name: source.unit for source in self.sources}
        for name, line in self.journal.training.items():
            bits = name in self.journal.in_bits
            held_out = self.journal.held_out.get(name)
            rows = [row for row in self.comparisons if row.subject == name and bits]
            others = {r.baseline: r.other for r in rows if r.metric.name.startswith("bits per")}
            shown = Curve(
                name,
                units.get(name, "unit") if bits else "token",
                line.points(),
                held_out.points() if held_out else (),
                others,
                line.band(),
                "bits" if bits else "nats",
            )
            yield curve(shown, table=True)

    def live(self) -> str:
        """Return the part of the page that changes while the run trains, as HTML."""
        run = self.summary
        facts = "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in self.facts().items())
        parts = [f'<p class="state">{run.status.state}: {WORDS[run.status.state]}</p>']
        if (error := run.status.error) is not None:
            when = (
                f"{day(error.time)}, exit code {error.exit_code}" if error.time else "no exit code"
            )
            parts.append(
                f'<section class="ended"><h2>Why it ended</h2><p>{escape(error.message)}</p>'
                f"<p><b>{escape(error.remedy)}</b></p><p><small>{when}</small></p></section>"
            )
        parts.append(f"<dl>{facts}</dl>")
        parts.append(
            "<h2>Curves</h2><p>Line: training, the mean of equal stretches of steps; shade: lowest"
            " to highest value. Dots: held-out rows, at evaluations. Dashed: baselines, as"
            " <code>broadbase evaluate</code> found them.</p>"
            f'<div class="charts">{"".join(self.figures())}</div>'
        )
        parts += [_changes(self.journal.changes)] if self.journal.changes else []
        parts += [_samples(self.samples)] if self.samples else []
        return "".join(parts)

    def rest(self) -> str:
        """Return the other parts: comparisons, rejected records, environment, config, as HTML."""
        parts = [_comparisons(self.comparisons)] if self.comparisons else []
        parts.append(f"<h2>Data</h2>{''.join(map(_source, self.sources))}")
        facts = self.environment.items()
        rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts)
        parts.append(f"<h2>Environment</h2><dl>{rows}</dl>")
        parts.append(
            "<h2>Config</h2><details><summary>config.yaml</summary>"
            f'<pre class="code">{escape(self.config)}</pre></details>'
        )
        return "".join(parts)

    def page(self) -> str:
        """Return a page that needs no server, script or other file."""
        title = f"Run {escape(self.summary.name)}"
        style = STYLE.read_text(encoding="utf-8")
        written = f"<p>Written on {day(time.time())} by <code>broadbase report</code>.</p>"
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
            f"<h1>{title}</h1>\n{written}\n{self.live()}\n{self.rest()}\n</main>\n</body>\n</html>\n"
        )


def write_run_report(folder: Path, path: Path) -> None:
    """Write the report of a run as one file; ResourceError where that fails."""
    view = RunView.of(folder, Summaries(), History(folder / "metrics.jsonl"))
    write_page(path, view.page())


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def day(moment: float) -> str:
    """Return a moment as the clock of this machine shows it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def _changes(changes: Sequence[tuple[int, Mapping[str, object]]]) -> str:
    items = [
        f"<li>after step {step:,}: {escape(name)} became {escape(pair[-1])}</li>"
        for step, each in changes
        for name, pair in each.items()
        if isinstance(pair, list) and pair
    ]
    return f"<h2>Changed settings</h2><ul>{''.join(items)}</ul>"


def _samples(rows: Sequence[Sample]) -> str:
    """Return what was generated after the newest evaluation, and before it what is opened."""
    figures = [_sample(row) for row in rows]
    newest = sum(row.step == rows[0].step for row in rows)
    earlier = "".join(figures[newest:])
    more = f'<details id="earlier"><summary>Earlier samples</summary>{earlier}</details>'
    return f"<h2>Samples</h2>{''.join(figures[:newest])}{more if earlier else ''}"


def _sample(row: Sample) -> str:
    caption = f"{escape(row.source)}, after step {row.step:,}"
    if row.picture:
        image = (
            f'<img src="data:image/png;base64,{escape(row.picture)}" height="112" alt="{caption}">'
        )
        return f'<figure class="picture">{image}<figcaption>{caption}</figcaption></figure>'
    words = f"<pre><i>{escape(row.prompt)}</i>{escape(row.text)}</pre>"
    return f"<figure><figcaption>{caption}</figcaption>{words}</figure>"


def _comparisons(rows: Sequence[Comparison]) -> str:
    cells = "".join(
        f'<tr class="{row.verdict}"><td>{escape(row.subject)}</td>'
        f"<td>{escape(row.metric.label)}</td><td>{number(row.model, '.3f')}</td>"
        f"<td>{escape(row.baseline)}</td>"
        f"<td>{number(row.other, '.3f')}</td><td>{interval(row.gap, '+.3f')}</td></tr>"
        for row in rows
    )
    heads = ("Data", "Metric", "Model", "Baseline", "Its score", "Model minus baseline")
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    return (
        "<h2>Next to baselines</h2><p>On all held-out records, with 95 % intervals of the paired"
        ' difference.</p><div class="wide" role="region" tabindex="0" aria-label="Comparisons">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table></div>"
    )


def _source(source: Source) -> str:
    name = escape(source.name)
    if source.counts is None:
        return f"<p><b>{name}</b>: its prepared data is not in the run's folder.</p>"
    kinds = ("records", "train", "validation", "rejected", "exact", "near")
    words = ("records", "for training", "held out", "rejected", "copies", "near copies")
    counts = [f"{source.counts.get(k, 0):,} {w}" for k, w in zip(kinds, words, strict=True)]
    text = f"<p><b>{name}</b>, in {escape(source.unit)}s: {', '.join(counts)}.</p>"
    if not source.rejected:
        return text
    rows = "".join(f"<li>{escape(where)}: {escape(why)}</li>" for where, why in source.rejected)
    shown = len(source.rejected)
    return f"{text}<details><summary>Rejected: the first {shown}</summary><ul>{rows}</ul></details>"
