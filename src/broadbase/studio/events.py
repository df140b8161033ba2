"""Server-sent events."""

from __future__ import annotations


def event(name: str, text: str) -> str:
    """Return an event as it is sent."""
    lines = [f"data: {line}" for line in text.splitlines()] or ["data:"]
    return "\n".join([f"event: {name}", *lines, "", ""])
