"""The command `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import MODEL, Device, Weights
from broadbase.core.extras import require_extra
from broadbase.core.preload import bound_caches

Adapters = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=FOLDER",
        help="An adapter of the base in PEFT's files, as a model of that name; repeatable.",
    ),
]


def serve(
    folders: Annotated[
        list[Path], typer.Argument(help=f"{MODEL} Or the folder of an adapted base.")
    ],
    host: Annotated[
        str, typer.Option(help="The address to listen at. Others need --api-key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at; 0: a free one.")] = 8000,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A name under which others reach it; repeatable.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="BROADBASE_API_KEY", help="The key that clients must send."),
    ] = None,
    rows: Annotated[int, typer.Option(help="How many answers to generate side by side.")] = 16,
    queue: Annotated[int, typer.Option(help="How many requests may wait.")] = 256,
    context: Annotated[
        int, typer.Option(help="Tokens that a prompt and its answer may have.")
    ] = 8192,
    seconds: Annotated[float, typer.Option(help="Seconds that an answer may take.")] = 300.0,
    grace: Annotated[
        float, typer.Option(help="Seconds for answers in progress after SIGTERM.")
    ] = 30.0,
    log_prompts: Annotated[bool, typer.Option(help="Write the prompts into the log.")] = False,
    runs: Annotated[
        Path | None, typer.Option(help="A folder of runs that /b/runs lists and follows.")
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(help="Data, or an index, that /b/neighbours searches; repeatable."),
    ] = None,
    adapter: Adapters = None,
    weights: Annotated[Weights, typer.Option(help="int8 is faster on a CPU.")] = Weights.stored,
    device: Device = "cpu",
) -> None:
    """Answer clients of OpenAI's API, and predictions of adapted bases, over HTTP."""
    require_extra("fastapi", "serve", "serving")
    bound_caches()
    settings = {
        "host": host,
        "port": port,
        "allowed_hosts": allowed_host or (),
        "api_key": api_key,
        "rows": rows,
        "queue": queue,
        "context": context,
        "seconds": seconds,
        "grace": grace,
        "log_prompts": log_prompts,
    }
    work.serve.serve(
        folders,
        settings,
        runs=runs,
        records=records or (),
        weights=weights,
        device=device,
        adapters=adapter or (),
    )
