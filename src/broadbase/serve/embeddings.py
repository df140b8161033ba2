"""/v1/embeddings: the vector of a record, the mean of its last hidden states."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray

from broadbase.core.errors import ConfigError, DataError
from broadbase.inference.base import Base
from broadbase.inference.documents import closing, opening
from broadbase.modalities.tokens import TokensCodec
from broadbase.serve.bodies import EmbeddingBody
from broadbase.serve.prompts import check_ids
from broadbase.serve.records import record
from broadbase.serve.service import Service, unless_gone
from broadbase.weights.sizes import ids

MOST = 2048  # records of a request


def embedding(service: Service) -> APIRouter:
    """Return the route of embeddings."""
    router = APIRouter()

    @router.post("/v1/embeddings", response_model=None)
    async def embed(body: EmbeddingBody, request: Request) -> dict[str, Any]:
        """Return a vector for each record."""
        base = service.base(body.model)
        modality = base.codec(body.modality)[0]
        raws = await run_in_threadpool(read_records, base, modality, body.input)
        service.log_prompt(body.input)
        job = service.job(vectors, base, modality, raws, service.settings.context)
        rows, tokens = await unless_gone(request, job)
        service.meters.tokens_in += tokens
        as_text = body.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": i, "embedding": _base64(row) if as_text else row}
            for i, row in enumerate(rows if as_text else rows.tolist())
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": body.model, "data": data, "usage": usage}

    return router


def vectors(
    base: Base, modality: str, raws: Sequence[Any], most: int
) -> tuple[NDArray[np.float32], int]:
    """Return the vectors [M,D] of records, and how many tokens these have.

    ConfigError if one has more than `most`.
    """
    read = base.read(raws, modality=modality)
    count, longest = read.position.shape[:2]
    if longest > most:
        raise ConfigError(
            f"input: a record has {longest} tokens, and this server reads at most {most}; cut it"
        )
    rows = base.embed(raws, modality=modality, layers=False)
    return rows, count * longest if read.document is None else int((read.document >= 0).sum())


def read_records(base: Base, modality: str, given: Any) -> list[Any]:
    """Return the raw records of an `input`: one record, ids, or a list of these.

    DataError names the first that is none.
    """
    one = not isinstance(given, list) or _are_ids(given)
    values = [given] if one else given
    if not values or len(values) > MOST:
        raise DataError(f"input: give 1 to {MOST} records, not {len(values)}")
    return [_read(base, modality, value, f"input {i}") for i, value in enumerate(values)]


def _read(base: Base, modality: str, value: Any, at: str) -> Any:
    if ids(base.config.modalities[modality]) is None or not _are_ids(value):
        return record(value, at)
    check_ids(base, modality, value, at)
    return _of_ids(base, modality, value, at)


def _of_ids(base: Base, modality: str, given: Sequence[int], at: str) -> Any:
    """Return the record that some ids are, their start and end left out.

    DataError if they are not those of a text, as of another model's tokenizer.
    """
    codec = base.codec(modality)[1]
    first, last = opening(codec).tolist(), closing(codec).tolist()
    inner = [*given]
    inner = inner[len(first) :] if inner[: len(first)] == first else inner
    inner = inner[: -len(last)] if last and inner[-len(last) :] == last else inner
    if isinstance(codec, TokensCodec):
        return inner
    text = codec.decode(np.array(inner, dtype=np.int64), (len(inner),))
    if isinstance(text, str) and codec.encode(text).values.tolist() == inner:
        return text
    raise DataError(
        f"{at}: these ids are not how this base writes a text; send the text, or ids of its own"
        " tokenizer.json (clients that cut texts into ids by another tokenizer need an option for"
        " that, as check_embedding_ctx_length=False of LangChain)"
    )


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


def _base64(row: NDArray[np.float32]) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()
