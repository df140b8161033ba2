"""Counts of a server, and the text in which Prometheus reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Meters:
    """Counts since the start; they are changed in the thread of the sockets alone."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.requests: Counter[tuple[str, int]] = Counter()  # by route and status
        self.tokens_in = self.tokens_out = 0
        self.in_flight = 0  # requests that are being answered
        self._first = [0] * (len(BUCKETS) + 1)  # answers by seconds to their first token
        self._seconds = 0.0

    def first_token(self, seconds: float) -> None:
        """Count an answer by the seconds from its request to its first token."""
        self._first[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return all counts, and some `gauges`, in Prometheus' text format."""
        return "".join(f"{line}\n" for line in self._lines(gauges))

    def _lines(self, gauges: Mapping[str, float]) -> Iterator[str]:
        yield "# TYPE broadbase_requests_total counter"
        for (route, status), count in sorted(self.requests.items()):
            yield f'broadbase_requests_total{{route="{route}",status="{status}"}} {count}'
        counters = {"tokens_in_total": self.tokens_in, "tokens_out_total": self.tokens_out}
        for name, value in counters.items():
            yield f"# TYPE broadbase_{name} counter"
            yield f"broadbase_{name} {value}"
        for name, gauge in {"in_flight": self.in_flight, **gauges}.items():
            yield f"# TYPE broadbase_{name} gauge"
            yield f"broadbase_{name} {gauge}"
        name, total = "broadbase_first_token_seconds", 0
        yield f"# TYPE {name} histogram"
        for bound, count in zip((*BUCKETS, "+Inf"), self._first, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._seconds:.6f}"
        yield f"{name}_count {total}"
