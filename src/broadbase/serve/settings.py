"""The settings of a server."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from broadbase.core.config import Config


class ServeConfig(Config):
    """Where a server listens, and what one client may ask of it."""

    host: str = "127.0.0.1"
    """The address to listen at; other machines reach any but a loopback address."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """The port to listen at; 0: a free one."""
    allowed_hosts: tuple[str, ...] = ()
    """The names under which other machines reach the server, as in their `Host` header."""
    api_key: SecretStr | None = None
    """The key that clients of the API send as `Authorization: Bearer KEY`; null: none."""
    rows: Annotated[int, Field(ge=1)] = 16
    """How many answers are generated side by side."""
    queue: Annotated[int, Field(ge=1)] = 256
    """How many requests wait at most; a client gets status 429 where there are more."""
    max_body_bytes: Annotated[int, Field(ge=1)] = 1_000_000
    """The most bytes of a request to the API."""
    max_upload_bytes: Annotated[int, Field(ge=1)] = 256_000_000
    """The most bytes of a file that is sent to a page."""
    max_audio_bytes: Annotated[int, Field(ge=1)] = 25_000_000
    """The most bytes of a sound to transcribe."""
    context: Annotated[int, Field(ge=1)] = 8192
    """The most tokens of a record, or of a prompt and its answer; a base may have less."""
    seconds: Annotated[float, Field(gt=0)] = 300.0
    """How many seconds an answer may take."""
    grace: Annotated[float, Field(ge=0)] = 30.0
    """How many seconds the answers in progress have to end after SIGTERM."""
    log_prompts: bool = False
    """Whether the log holds the prompts of clients."""

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if not is_loopback(self.host) and self.api_key is None:
            raise ValueError(
                f"host: {self.host} can be reached from other machines; give an api_key"
                " (--api-key), or listen at 127.0.0.1"
            )
        return self

    @property
    def hosts(self) -> frozenset[str]:
        """The names, without port, that the `Host` header of a request may have."""
        loopback = {"127.0.0.1", "localhost", "[::1]"} if is_loopback(self.host) else {self.host}
        return frozenset(loopback | {name.lower() for name in self.allowed_hosts})


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
