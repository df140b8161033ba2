"""A client of OpenAI's API: a request, its deadline, and errors that name the endpoint."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from broadbase.core.errors import ConfigError, EndpointError
from broadbase.core.trees import brief

KEY, SECONDS = "BROADBASE_ENDPOINT_KEY", "BROADBASE_ENDPOINT_SECONDS"  # environment variables
LIMIT = 60.0  # seconds for an answer, by default
LARGEST = 1 << 26  # bytes of an answer
TRIES, LONGEST_WAIT = 4, 30.0  # of a server that asks to wait; seconds between two
BUSY = (429, 503)
ADDRESS = re.compile(r"(https?):/{1,2}([^/#][^#]*)#(.+)")  # a Path has one slash where a URL has 2
LOCAL = ("127.0.0.1", "localhost", "::1")

REMEDIES: Mapping[int, str] = {
    401: f"put its key into the environment variable {KEY}",
    403: f"put a key that may use the model into the environment variable {KEY}",
    404: "check the address, which ends in /v1 as a rule, and the model's name after #",
    429: "wait, or ask for fewer records",
}


class NoRedirect(HTTPRedirectHandler):
    """Refuses to go to another address: the key is for this one."""

    def redirect_request(self, *_: Any) -> None:
        """Return no request."""


@dataclass(frozen=True)
class Client:
    """One model at an endpoint."""

    url: str  # https://HOST/v1
    model: str
    key: str = ""
    seconds: float = LIMIT  # for an answer

    @classmethod
    def at(cls, address: str) -> Client:
        """Return the client of `URL#MODEL`, with the key of the environment.

        ConfigError where the address is none, or the key would travel in the open.
        """
        match = ADDRESS.fullmatch(address)
        if match is None:
            raise ConfigError(f"{address} is no endpoint; write https://HOST/v1#MODEL")
        scheme, where, model = match.groups()
        url, key = f"{scheme}://{where.rstrip('/')}", os.environ.get(KEY, "")
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query:
            raise ConfigError(f"an address holds no key and no query; put the key into {KEY}")
        if key and scheme == "http" and parts.hostname not in LOCAL:
            raise ConfigError(f"{url}: {KEY} would be sent unencrypted; use https, or unset it")
        limit = os.environ.get(SECONDS, str(LIMIT))
        with suppress(ValueError):
            if 0 < float(limit) < float("inf"):
                return cls(url, model, key, float(limit))
        raise ConfigError(f"{SECONDS} is {limit!r}, and no number of seconds; give one above 0")

    @property
    def name(self) -> str:
        """The address, as messages name it."""
        return f"{self.url}#{self.model}"

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a request for the model; EndpointError says what went wrong.

        A server that is busy is tried again when it says so, a few times.
        """
        for again in range(TRIES):
            try:
                return self._post(path, body)
            except HTTPError as error:
                wait = _seconds(error.headers.get("Retry-After"), 2.0**again)
                if error.code not in BUSY or again == TRIES - 1:
                    raise self._refused(path, error) from None
                time.sleep(min(wait, LONGEST_WAIT))
        raise AssertionError

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        content = json.dumps({"model": self.model, **body}).encode()
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        request = Request(self.url + path, content, headers)
        deadline = time.monotonic() + self.seconds
        try:
            with build_opener(NoRedirect).open(request, timeout=self.seconds) as response:
                answer = bytearray()
                while chunk := response.read1(1 << 16):
                    answer += chunk
                    if len(answer) > LARGEST:
                        raise self.error(f"answers with more than {LARGEST >> 20} MB", "")
                    if time.monotonic() > deadline:
                        raise TimeoutError
        except HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        try:
            tree = json.loads(answer)
        except ValueError:
            tree = None
        if not isinstance(tree, dict):
            said = brief(bytes(answer[:200]).decode(errors="replace"))
            raise self.error(f"answers {path} with {said}, which is no JSON object", "")
        return tree

    def error(self, what: str, remedy: str, status: int | None = None) -> EndpointError:
        """Return an error that says what the endpoint does, and what to do."""
        said = f"{self.name} {what}; {remedy or 'is it a server of the API of OpenAI?'}"
        return EndpointError(said, status)

    def _unreachable(self, error: Exception) -> EndpointError:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, TimeoutError):
            remedy = f"ask for less, or raise {SECONDS}"
            return self.error(f"does not answer within {self.seconds:g} s", remedy)
        return self.error(
            f"cannot be reached ({reason})", "is it running, and is the address right?"
        )

    def _refused(self, path: str, error: HTTPError) -> EndpointError:
        content = error.read(2000).decode(errors="replace") if error.fp else ""
        said = content
        with suppress(ValueError, KeyError, TypeError):
            said = str(json.loads(content)["error"]["message"])
        remedy = REMEDIES.get(error.code, "change what it names")
        what = f"refuses {path} with status {error.code}: {brief(' '.join(said.split()), 300)}"
        return self.error(what, remedy, error.code)


def endpoint_address(where: object) -> str | None:
    """Return the address URL#MODEL that a path stands for; None of other paths."""
    match = ADDRESS.fullmatch(str(where))
    return match and f"{match[1]}://{match[2]}#{match[3]}"


def _seconds(said: str | None, default: float) -> float:
    try:
        return max(0.0, float(said or default))
    except ValueError:
        return default
