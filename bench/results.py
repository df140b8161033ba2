"""Every recipe on real data against its baselines: writes docs/results.md.

python bench/results.py [ROW ...] [--folder runs/results]

Runs all rows in order, or those that are named. Finished commands are not run again, so a stopped
run continues. The page has all rows that were ever finished in the folder, the losing ones too; of
rows that the folder lacks it keeps what it says.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from broadbase.adapt.result import RANDOM_INIT
from broadbase.evidence.comparison import Comparison
from broadbase.run.run import Run
from broadbase.train.metrics_log import MetricsLog
from machine import description

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results.md"
EXPECTED = ROOT / "src" / "broadbase" / "recipes" / "expected.json"
MACHINE = "Machine: "
RUN = "RUN"  # the run's folder, in a command
INTRODUCTION = """Written by `make results` (`python bench/results.py`): every recipe on real data,
against its baselines, on records it never saw. A gap is the model's score less the baseline's, with
its 95 % interval: over held-out documents, or over splits where the model is adapted. Arrows show
which direction of a metric is better; a gap is bold where its interval excludes 0 and the model is
better. Rows that lose stay. Where a row took far more seconds than seconds of CPU, other work was
running at the same time. A row that was measured on another machine names it.
Accuracy, macro-F1 and R2 from labels are of a frozen probe (neighbours for `dino`)."""
APART = ("distil", "preferences")  # sections of the page that other benches measure
PICTURES = {"height": 28, "width": 28, "channels": 1}


def _longer(length: int, **more: object) -> str:
    """Return the settings that continue from rows of `length` tokens with four times as many."""
    scaling = f"{{{{name: yarn, factor: 4, original: {length}}}}}"  # the row is formatted once more
    settings = {name.replace("__", "."): value for name, value in more.items()}
    settings |= {"optim.lr": 3e-3, "optim.muon_lr": 0.01, "train.steps": 200}
    written = " ".join(f"--set {name}={value}" for name, value in settings.items())
    return f"--set 'model.towers.main.positions.scaling={scaling}' {written}"


def _fashion(patch: int, **more: object) -> str:
    """Return the settings of 28 x 28 grey images in patches."""
    settings: dict[str, object]
    settings = {f"model.modalities.image.{k}": v for k, v in (PICTURES | {"patch": patch}).items()}
    settings |= {"data.sources.image.sequence_length": 1 + (28 // patch) ** 2}
    settings |= {name.replace("__", "."): value for name, value in more.items()}
    return " ".join(f"--set {name}={value}" for name, value in settings.items())


@dataclass(frozen=True)
class Row:
    """A run, and the commands that evaluate it."""

    modality: str
    pretrain: str  # what follows `broadbase pretrain`; {NAME} is the run of another row
    adapt: tuple[str, ...] = ()  # what follows `broadbase adapt RUN`
    evaluate: bool = True
    tasks: tuple[str, ...] = ()  # further tasks to evaluate on
    against: str = ""  # the row whose base is one more baseline


# Fixed before the first measurement (docs/log.md, 2026-11-26); what was tuned was tuned elsewhere.
TOKENIZER = "model.modalities.codes.tokenizer"
NEEDLE = (  # 200 of the texts, a small vocabulary
    "--set data.sources.text.source.source.limit=200 --set model.modalities.text.vocab_size=2048"
)
SPOKEN = "--data sample:klettres --set train.steps=700"  # within five minutes, as BART's 900
ROWS = {
    "text": Row(
        "text",
        "text --data sample:brown",
        tuple(
            f"--data sample:{task} --macro"
            for task in (
                "spam --train-size 200",
                "spam --train-size 50 --splits 10",
                "genres --train-size 100",
            )
        ),
    ),
    "t5": Row("molecule", "t5 --data sample:moses"),
    "fim": Row("molecule", "fim --data sample:moses --set objective.spm=1"),
    "bart": Row("molecule", "bart --data sample:moses --set train.steps=900"),
    "code": Row("code", "code --data sample:python", tasks=("sample:humaneval",)),
    "vq": Row(
        "image",
        f"vq --data sample:fashion_test {_fashion(4, model__heads__pixels__channels=16)}",
    ),
    "beit": Row(
        "image",
        "beit --data sample:fashion_test "
        + _fashion(4, data__sources__codes__sequence_length=50)
        + f" --set {TOKENIZER}={{vq}}",
        ("--data sample:fashion_test --train-size 100",),
    ),
    "draw": Row(
        "image generation",
        f"draw --data sample:fashion_test --set data.sources.codes.sequence_length=50"
        f" --set {TOKENIZER}={{vq}}",
    ),
    "emoji-codes": Row(
        "image",
        "vq --data sample:openmoji --set model.modalities.image.height=32 --set"
        " model.modalities.image.width=32 --set model.modalities.image.patch=4 --set"
        " data.sources.image.sequence_length=65 --set model.heads.pixels.channels=48 --set"
        " train.steps=600",
    ),
    "emoji": Row(
        "image generation",
        f"draw --data sample:openmoji --set data.holdout=0.2 --set"
        f" data.sources.words.sequence_length=40"
        f" --set train.steps=800 --set {TOKENIZER}={{emoji-codes}}",
    ),
    "digits": Row(
        "image",
        "mae --data sample:digits_train --set model.modalities.image.height=8"
        " --set model.modalities.image.width=8 --set model.modalities.image.channels=1"
        " --set model.modalities.image.patch=2 --set model.heads.pixels.channels=4",
        ("--data sample:digits_test --train-size 100 --splits 10",),
    ),
    "dino": Row(
        "image",
        "dino --data sample:fashion --depth 3 "
        + _fashion(
            7,
            data__sources__image__batch_size=64,
            model__heads__prototypes__prototypes=1024,
            optim__lr=3e-3,
            schedule__warmup=100,
            train__steps=2000,
        ),
        ("--data sample:fashion_test --method knn --train-size 1000",),
        evaluate=False,
    ),
    "mae": Row(
        "image",
        "mae --data sample:fashion "
        + _fashion(4, model__heads__pixels__channels=16, model__heads__pixels__normalise="false"),
        tuple(f"--data sample:fashion_test --train-size {n}" for n in (10, 100, 1000)),
    ),
    "clip": Row("vision-language", "clip --data sample:openmoji"),
    "siglip": Row("vision-language", "siglip --data sample:openmoji"),
    "bind": Row("multimodal", "bind --data sample:stamps --depth 2 --set train.steps=800"),
    "audio": Row(
        "audio",
        "audio --data sample:syllables",
        (
            "--data sample:sonicpi --train-size 80 --test-size 60 --splits 10",
            "--data sample:letters --train-size 200 --test-size 150 --splits 10",
        ),
    ),
    "speech_control": Row("audio", f"speech_control {SPOKEN}", evaluate=False),
    "speech": Row("audio", f"speech {SPOKEN}", against="speech_control"),
    "video": Row("video", "video --data sample:street --set data.holdout=0.25"),
    "protein": Row(
        "protein",
        "protein --data sample:uniprot",
        (
            "--data sample:organisms --train-size 200 --splits 10 --macro",
            "--data sample:structures --per-token --train-size 4000 --test-size 2000 --splits 10",
        ),
    ),
    "esm": Row(
        "protein",
        "esm --data sample:uniprot",
        tuple(
            f"--data sample:structures --per-token --train-size {n} --test-size 2000 --splits 10"
            for n in (500, 4000)
        ),
    ),
    "cell": Row(
        "cell",
        "cell --data sample:pbmc --set data.holdout=0.2",
        ("--data sample:pbmc --train-size 100 --test-size 500 --splits 10 --macro",),
    ),
    "album": Row(
        "image, long context",
        "album --data sample:digits --depth 2 --set data.sources.album.batch_size=32",
    ),
    "album_long": Row(
        "image, long context",
        "album --data sample:digits --depth 2 --init-from {album} "
        + _longer(
            33,
            data__sources__album__batch_size=8,
            data__sources__album__sequence_length=129,
            data__sources__album__source__pictures=128,
            data__sources__album__source__count=2000,
        ),
    ),
    "needle": Row(
        "text, long context",
        f"needle --data sample:brown --depth 2 --set data.sources.text.batch_size=32 {NEEDLE}",
    ),
    "needle_long": Row(
        "text, long context",
        f"needle --data sample:brown --depth 2 --init-from {{needle}} {NEEDLE} "
        + _longer(
            64,
            data__sources__text__batch_size=8,
            data__sources__text__sequence_length=256,
            data__sources__text__source__characters=720,
        ),
    ),
    "molecule": Row(
        "molecule",
        "molecule --data sample:moses",
        tuple(
            f"--data sample:{n} --train-size 100 --regression" for n in ("freesolv", "solubility")
        ),
    ),
}


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help=f"of: {', '.join(ROWS)}")
    parser.add_argument("--folder", type=Path, default=Path("runs/results"))
    options = parser.parse_args()
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are: {', '.join(ROWS)}")
    failed = []
    for name in options.rows or ROWS:
        try:
            finish(name, options.folder)
        except subprocess.CalledProcessError as error:
            failed.append(f"{name}: {shlex.join(map(str, error.cmd))}")
        write(options.folder)
    if failed:
        sys.exit("failed, and tried again the next time:\n" + "\n".join(failed))


def finish(name: str, folder: Path) -> None:
    """Run the commands of a row whose results, a file each, are missing."""
    row, home = ROWS[name], folder / name
    home.mkdir(parents=True, exist_ok=True)
    words = row.pretrain.format(**{other: folder / other / "run" for other in ROWS})
    new = [*shlex.split(words), "--out", home / "run"]
    started = (home / "run" / "config.yaml").exists()
    record(home / "pretrain.json", ["resume", home / "run"] if started else ["pretrain", *new])
    if not (home / "flop.json").exists():
        run = Run.open(home / "run")
        work = {"flop": flop(run), "recipe": run.config.recipe}
        work |= {"objective": run.config.objective.name, "machine": description()}
        (home / "flop.json").write_text(json.dumps(work))
    if row.evaluate:
        other = ["--baseline", folder / row.against / "run"] if row.against else []
        record(home / "evaluate.json", ["evaluate", home / "run", *other])
    for i, task in enumerate(row.tasks):
        record(home / f"evaluate-{i}.json", ["evaluate", home / "run", "--data", task])
    for i, task in enumerate(row.adapt):
        record(home / f"adapt-{i}.json", ["adapt", home / "run", *shlex.split(task)])


def record(file: Path, words: Sequence[object]) -> None:
    """Write what `broadbase WORDS --json` prints, and its seconds, to `file`, unless it exists."""
    if file.exists():
        return
    command = [sys.executable, "-m", "broadbase", *map(str, words), "--json"]
    print(shlex.join(["broadbase", *map(str, words)]), file=sys.stderr)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    result = {
        "seconds": time.monotonic() - start,
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "rows": json.loads(done.stdout.splitlines()[-1]),
    }
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(result, indent=1))
    draft.replace(file)


def flop(run: Run) -> float:
    """Return the FLOP of the training: those of one step, forward and backward, times the steps."""
    trainer = run.trainer(MetricsLog())
    views = trainer.objective.views(next(iter(trainer.batches(0))), trainer.corrupt)
    with FlopCounterMode(display=False) as counter:
        trainer.accumulate(views)
    return float(counter.get_total_flops()) * run.config.train.steps


def write(folder: Path) -> None:
    """Write the page, and what `broadbase recipes` says to expect.

    Rows that are not in the folder stay as they are.
    """
    head, old = page()
    old_rows = {row["command"]: row for row in json.loads(EXPECTED.read_text())}
    machine, sections, expected = description(), list[list[str]](), []
    done = {name for name in ROWS if (folder / name / "flop.json").exists()}
    if any(name in old for name in ROWS if name not in done):
        machine = head
    for name, row in ROWS.items():
        if name in done:
            sections.append([*section(name, row, folder / name, machine)])
            expected.append(facts(row, folder / name))
        elif name in old:
            sections.append(old[name])
            expected += [old_rows[command(row)]] if command(row) in old_rows else []
    sections += [old[name] for name in APART if name in old]
    lines = ["# Results", "", INTRODUCTION, "", f"{MACHINE}{machine}."]
    lines += [line for part in sections for line in ("", *part)]
    PAGE.write_text("\n".join(lines) + "\n")
    EXPECTED.write_text(json.dumps(expected, indent=1) + "\n")


def page() -> tuple[str, dict[str, list[str]]]:
    """Return the machine that the page names, and the lines of each of its rows."""
    first, *parts = PAGE.read_text().split("\n## ")
    machine = next(line for line in first.splitlines() if line.startswith(MACHINE))
    rows = {part.split(":")[0]: f"## {part}".strip().splitlines() for part in parts}
    return machine.removeprefix(MACHINE).removesuffix("."), rows


def section(name: str, row: Row, home: Path, machine: str) -> Iterator[str]:
    """Yield one row's part of the page, which names the machine where it is another."""
    cost, work = _read(home / "pretrain.json"), _read(home / "flop.json")
    yield f"## {name}: {row.modality}"
    yield ""
    yield (
        f"`{command(row)}`: {cost['seconds']:.0f} s on {cost['threads']} thread(s)"
        f"{'' if work['machine'] == machine else ' of ' + work['machine']}"
        f" ({cost['cpu']:.0f} s of CPU, data prepared in it), {work['flop']:.1e} FLOP"
    )
    yield ""
    yield "| subject | metric | items | baseline | score | baseline score | gap, 95 % CI |"
    yield "|---|---|---|---|---|---|---|"
    for comparison in comparisons(row, home):
        low, high = comparison.gap[1:]
        ends = "no interval" if low is None or high is None else f"{low:+.3f} {high:+.3f}"
        gap = f"{comparison.gap.mean:+.3f} ({ends})"
        yield (
            f"| {subject(comparison)} | {comparison.metric.label} | {comparison.items} |"
            f" {comparison.baseline} | {comparison.model:.3f} | {comparison.other:.3f} |"
            f" {f'**{gap}**' if comparison.verdict == 'better' else gap} |"
        )
    for i, task in enumerate(row.adapt):
        if (home / f"adapt-{i}.json").exists():
            seconds = _read(home / f"adapt-{i}.json")["seconds"]
            yield ""
            yield f"`broadbase adapt {RUN} {task}`: {seconds:.0f} s"


def command(row: Row) -> str:
    """Return the command that trains a row, as one would type it."""
    return "broadbase pretrain " + row.pretrain.format(**{other: f"RUNS/{other}" for other in ROWS})


def comparisons(row: Row, home: Path) -> Iterator[Comparison]:
    """Yield all comparisons of a row; of tasks those with random init and the best features."""
    for file in sorted(home.glob("evaluate*.json"), key=lambda file: file.stem):  # tasks last
        for values in _read(file)["rows"]:
            comparison = Comparison.from_json(values)
            if comparison.baseline == "run":  # the folder of the row's other model
                comparison = replace(comparison, baseline=row.against)
            yield comparison
    for file in sorted(home.glob("adapt-*.json")):
        for result in _read(file)["rows"]:
            for values in result["comparisons"]:
                if values["baseline"] in (RANDOM_INIT, result["best_features"]):
                    yield Comparison.from_json(values)


def subject(comparison: Comparison) -> str:
    """Return the subject of a comparison, of a task with the number of labels."""
    labels = comparison.train_size
    return comparison.subject if labels is None else f"{comparison.subject}, {labels} labels"


def facts(row: Row, home: Path) -> dict[str, Any]:
    """Return what to expect of a recipe.

    Its example, how long that takes without other work on the machine, and its first metric against
    the hardest baseline.
    """
    work, rows = _read(home / "flop.json"), list(comparisons(row, home))
    cost = _read(home / "pretrain.json")
    first = [c for c in rows if (c.subject, c.metric) == (rows[0].subject, rows[0].metric)]
    hardest = min(first, key=lambda comparison: comparison.advantage, default=None)
    return {
        "recipe": work["recipe"],
        "modality": row.modality,
        "objective": work["objective"],
        "command": command(row),
        "seconds": round(min(cost["seconds"], cost["cpu"] / cost["threads"])),
        "result": hardest and result_line(hardest),
    }


def result_line(comparison: Comparison) -> str:
    """Return a comparison in one line of text."""
    mean, *ends = (f"{value:+.3f}" for value in comparison.gap if value is not None)
    gap = ", ".join([mean, " ".join(ends)] if ends else [mean])
    return (
        f"{subject(comparison)}: {comparison.metric.label} {comparison.model:.3f};"
        f" {comparison.baseline} {comparison.other:.3f} ({gap})"
    )


def _read(file: Path) -> Any:
    return json.loads(file.read_text())


if __name__ == "__main__":
    main()
