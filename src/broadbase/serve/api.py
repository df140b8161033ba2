"""All routes of the API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter

from broadbase.serve.chat import chatting
from broadbase.serve.completions import completing
from broadbase.serve.embeddings import embedding
from broadbase.serve.media import media
from broadbase.serve.models import models
from broadbase.serve.neighbours import Files, neighbouring
from broadbase.serve.predictions import predicting
from broadbase.serve.runs import running
from broadbase.serve.service import Service


def api(service: Service, runs: Path | None = None, files: Sequence[Path] = ()) -> list[APIRouter]:
    """Return the routers of the API, with the runs of a folder and files to search in."""
    makers = (models, completing, chatting, embedding, media, predicting)
    routers = [make(service) for make in makers]
    return [*routers, neighbouring(service, Files.of(files)), running(runs)]
