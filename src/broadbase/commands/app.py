"""The command line: every command, in the order of work.

The file of a command holds its options and calls its work, which is imported then. So neither help
nor completion loads torch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Annotated

import typer

from broadbase.commands.adapt import adapt
from broadbase.commands.bases import bases
from broadbase.commands.cache import cache
from broadbase.commands.critique import critique
from broadbase.commands.demo import demo
from broadbase.commands.doctor import doctor
from broadbase.commands.doubts import doubts
from broadbase.commands.evaluate import evaluate
from broadbase.commands.export import export
from broadbase.commands.generate import generate
from broadbase.commands.import_weights import import_weights
from broadbase.commands.index import index
from broadbase.commands.inspect import inspect
from broadbase.commands.options import log
from broadbase.commands.predict import predict
from broadbase.commands.prepare import prepare
from broadbase.commands.pretrain import pretrain
from broadbase.commands.recipes import recipes
from broadbase.commands.remove import remove
from broadbase.commands.report import report
from broadbase.commands.resume import resume
from broadbase.commands.samples import samples
from broadbase.commands.sbatch import sbatch
from broadbase.commands.search import search
from broadbase.commands.serve import serve
from broadbase.commands.studio import studio
from broadbase.commands.suggest import suggest
from broadbase.core.terminal import echo

COMMANDS: dict[str, Callable[..., None]] = {
    "prepare": prepare,
    "inspect": inspect,
    "remove": remove,
    "samples": samples,
    "bases": bases,
    "recipes": recipes,
    "pretrain": pretrain,
    "resume": resume,
    "report": report,
    "sbatch": sbatch,
    "evaluate": evaluate,
    "generate": generate,
    "critique": critique,
    "adapt": adapt,
    "predict": predict,
    "doubts": doubts,
    "suggest": suggest,
    "index": index,
    "search": search,
    "serve": serve,
    "studio": studio,
    "import": import_weights,
    "export": export,
    "cache": cache,
    "doctor": doctor,
    "demo": demo,
}

app = typer.Typer(
    name="broadbase",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, command in COMMANDS.items():
    summary = (command.__doc__ or "").partition("\n")[0]  # which typer would cut to a line
    app.command(name, short_help=summary)(command)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Pretrain one foundation model on your own data, and adapt it to many tasks."""
    if version:
        echo(f"broadbase {metadata.version('broadbase')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        log.say(context.get_help())
        raise typer.Exit(2)
