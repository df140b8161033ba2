"""What the commands share: the app, options, and how results and messages are printed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from broadbase.core.terminal import Terminal, echo

COMMANDS = {  # in the order of work: the module of each, and the first line of its help
    "prepare": ("data", "Clean, deduplicate and encode data into a store."),
    "inspect": ("data", "Show what a model reads: mixture, lengths, duplicates, records."),
    "remove": ("data", "Take documents, and their duplicates, out of prepared data for good."),
    "samples": ("data", "List real data to try things on, from packages."),
    "recipes": ("train", "List what can be trained out of the box."),
    "pretrain": ("train", "Train a base on raw data, without labels."),
    "resume": ("train", "Continue a run that was stopped, from its newest good checkpoint."),
    "sbatch": ("train", "Print a Slurm script that trains on many ranks."),
    "evaluate": ("evaluate", "Measure a base on held-out data against baselines."),
    "generate": ("generate", "Continue prompts, or answer them."),
    "adapt": ("adapt", "Adapt a base to a labelled task, compared with its random init."),
    "import": ("exchange", "Read published weights, and check that they compute the same."),
    "export": ("exchange", "Write a base for transformers, for llama.cpp, or as bare tensors."),
    "doctor": ("machine", "Show what this machine has and what would be chosen on it."),
    "demo": ("demo", "Show the whole idea on real data in minutes."),
}


class Commands(typer.core.TyperGroup):
    """The commands by name; a command's module is imported when the command is looked up."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        importlib.import_module(f"broadbase.commands.{module}")  # registers with `app`
        return typer.main.get_group(app).commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


app = typer.Typer(
    name="broadbase",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
log = Terminal(stderr=True)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """One foundation model: pretrained on whatever data you have, adapted many times."""
    if version:
        echo(f"broadbase {metadata.version('broadbase')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        log.say(context.get_help())
        raise typer.Exit(2)


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one field of the config.")
]


def _recipes(incomplete: str) -> list[str]:
    folder = Path(__file__).parents[1] / "recipes"
    texts = {path.stem: path.read_text() for path in folder.glob("*.py")}
    return sorted(n for n, text in texts.items() if n.startswith(incomplete) and "RECIPE =" in text)


RecipeName = Annotated[
    str,
    typer.Argument(
        help="A recipe (`broadbase recipes` lists them), or a config.yaml to repeat.",
        autocompletion=_recipes,
    ),
]


def not_empty(value: Any) -> Any:
    """A shell variable that is not set gives an empty text, which would mean the current folder."""
    if value == "" or (isinstance(value, list | tuple) and "" in value):
        raise typer.BadParameter("it is empty; give a value, or leave the option out")
    return value


WHERE = "A folder, a file, a URL, sample:NAME or source:FILE.yaml"
Data = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH", callback=not_empty, help=f"{WHERE.capitalize()}; several: a mixture."
    ),
]
OneData = Annotated[str, typer.Option(metavar="PATH", callback=not_empty, help=WHERE)]
Depth = Annotated[int | None, typer.Option(min=1, help="The size: layers, width, steps grow. [4]")]
FieldName = Annotated[
    str | None, typer.Option("--field", help="The column of a table that holds the record.")
]
Pattern = Annotated[
    str | None, typer.Option(help="Which files of a folder are read, as '**/*.txt **/*.log'.")
]
Like = Annotated[str | None, typer.Option(help="A published family to be one of: vit, t5, ...")]
Start = Annotated[str | None, typer.Option(help="A base to go on with: a run or a model folder.")]
Device = Annotated[str, typer.Option(help="Where to train: auto, cpu, cuda or mps.")]


def fresh(parent: Path, name: str) -> Path:
    """The first of parent/NAME-1, parent/NAME-2, ... that does not exist."""
    numbers = (i for i in range(1, 10_000) if not (parent / f"{name}-{i}").exists())
    return parent / f"{name}-{next(numbers)}"


def show(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool, title: str
) -> None:
    """Print rows as a table of `columns`, or as JSON."""
    if as_json:
        echo(json.dumps(rows))
    else:
        Terminal().rows(rows, columns, title)
