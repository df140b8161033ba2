"""The fixtures of the tests that use a browser."""

from __future__ import annotations

from support.browser import browser, page, problems, runs, studio

__all__ = ["browser", "page", "problems", "runs", "studio"]
