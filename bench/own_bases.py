"""Own bases: twelve tasks of seven modalities with 100 labels, against random init and features.

python bench/own_bases.py [ROW ...] [--folder runs/results]

The bases are rows of results.py, each pretrained within five minutes. Every task is one command
`broadbase adapt RUN ... --train-size 100 --splits 10`, whose result is kept in the folder; then the
table of all finished tasks is printed. Fixed before the first measurement:

- Two tasks each of text, images, sound, proteins (one labels residues) and molecules, one of cells
  and one of video. `sonicpi` has 165 sounds, so it learns from 80. `pans` holds other films than
  the base saw.
- The method is `probe`, which chooses its layers by leave-one-out error on the labels alone.
- "Best features" are those of adapt/features.py with the best mean over the test records of the
  task, which favours them.
- A base is above a baseline where the 95 % interval of the paired differences over the splits is
  above 0. Goals: above random init on 8 of 12, above the best features on 3.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from broadbase.adapt.result import RANDOM_INIT
from broadbase.evidence.comparison import Comparison
from results import finish, record

FEW = "--train-size 100 --splits 10"
TASKS = {  # name: (row of results.py, what follows `broadbase adapt RUN`)
    "genres": ("text", f"--data sample:genres {FEW} --macro"),
    "spam": ("text", f"--data sample:spam {FEW} --macro"),
    "fashion": ("mae", f"--data sample:fashion_test {FEW}"),
    "digits": ("digits", f"--data sample:digits_test {FEW}"),
    "sonicpi": ("audio", "--data sample:sonicpi --train-size 80 --test-size 60 --splits 10"),
    "letters": ("audio", f"--data sample:letters --test-size 150 {FEW}"),
    "organisms": ("protein", f"--data sample:organisms {FEW} --macro"),
    "structures": ("protein", f"--data sample:structures --per-token --test-size 2000 {FEW}"),
    "freesolv": ("molecule", f"--data sample:freesolv {FEW} --regression"),
    "solubility": ("molecule", f"--data sample:solubility {FEW} --regression"),
    "pbmc": ("cell", f"--data sample:pbmc {FEW} --macro"),
    "pans": ("video", f"--data sample:pans {FEW}"),
}


def main() -> None:
    """Measure the tasks of some bases, or of all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help="the bases; by default all")
    parser.add_argument("--folder", type=Path, default=Path("runs/results"))
    options = parser.parse_args()
    for name, (row, words) in TASKS.items():
        if row in (options.rows or {base for base, _ in TASKS.values()}):
            finish(row, options.folder)
            run = options.folder / row / "run"
            record(options.folder / f"own-{name}.json", ["adapt", run, *shlex.split(words)])
    report(options.folder)


def report(folder: Path) -> None:
    """Print a row for each finished task, and on how many tasks the bases are above."""
    print("| task | base | random init | own base | gain | best features | lead |")
    print("|---|---|--:|--:|---|---|---|")
    above = {"random init": list[str](), "the best features": list[str]()}
    for name, (row, _) in TASKS.items():
        if not (file := folder / f"own-{name}.json").exists():
            continue
        (result,) = json.loads(file.read_text())["rows"]
        rows = {each["baseline"]: Comparison.from_json(each) for each in result["comparisons"]}
        random, features = rows[RANDOM_INIT], rows[result["best_features"]]
        for baseline, each in zip(above, (random, features), strict=True):
            if each.verdict == "better":
                above[baseline].append(name)
        best = f"{features.baseline} {features.other:.3f}"
        cells = (name, row, f"{random.other:.3f}", f"{random.model:.3f}", gap(random), best)
        print(f"| {' | '.join(cells)} | {gap(features)} |")
    for baseline, names in above.items():
        print(f"\nabove {baseline}: {len(names)} ({', '.join(names) or 'none'})")


def gap(row: Comparison) -> str:
    """Return a difference with its interval."""
    return f"{row.gap.mean:+.3f} ({row.gap.low:+.3f} {row.gap.high:+.3f})"


if __name__ == "__main__":
    main()
