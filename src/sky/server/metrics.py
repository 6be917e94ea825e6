"""What this server counts, as Prometheus reads it. A few lines of text: the core install takes no library for them.

`asgi` tells of every call, `watch_loop` of how late the event loop is; `server.routes.upkeep` asks for the text.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from sky.core.model.vitals import Vitals
from sky.version import __version__

#: Upper ends of the classes of durations, in seconds.
_BOUNDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
#: Seconds between looks at the event loop's lateness.
_LOOK_S = 0.5

Labels = Mapping[str, str]


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str, int], int] = {}
        self._durations: dict[str, list[float]] = {}
        self._lag = self._worst = 0.0

    def seen(self, method: str, route: str, status: int, seconds: float) -> None:
        """A call was answered; of a stream, it began. `route` is as the server names it, so there are few."""
        key = (method, route, status)
        self._calls[key] = self._calls.get(key, 0) + 1
        kept = self._durations.setdefault(route, [0.0] * (len(_BOUNDS) + 2))
        kept[bisect_left(_BOUNDS, seconds)] += 1
        kept[-1] += seconds

    async def watch_loop(self) -> None:
        """Measure how much later than asked the event loop wakes; runs for as long as the server."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await asyncio.sleep(_LOOK_S)
            self._lag = max(0.0, loop.time() - begun - _LOOK_S)
            self._worst = max(self._worst, self._lag)

    def text(self, vitals: Vitals, *, streams: int, draining: bool, started_at: float) -> str:
        """Everything, in the text format 0.0.4. The worst lateness is that since the last time."""
        worst, self._worst = self._worst, self._lag
        lines = [
            *_family("sky_build_info", "gauge", "The version.", [({"version": __version__}, 1)]),
            *_family("sky_start_time_seconds", "gauge", "When this server started.", [({}, started_at)]),
            *self._http(),
            *_family("sky_open_streams", "gauge", "Streams that are open.", [({}, streams)]),
            *_family("sky_draining", "gauge", "Whether it is about to end.", [({}, int(draining))]),
            *_family("sky_loop_lag_seconds", "gauge", "How late the event loop woke last.", [({}, self._lag)]),
            *_family("sky_loop_lag_worst_seconds", "gauge", "The worst since the last scrape.", [({}, worst)]),
            *_rows(vitals),
        ]
        return "\n".join(lines) + "\n"

    def _http(self) -> Iterable[str]:
        calls = [
            ({"method": method, "route": route, "status": str(status)}, count)
            for (method, route, status), count in sorted(self._calls.items())
        ]
        yield from _family("sky_http_requests_total", "counter", "Calls answered.", calls)
        name = "sky_http_request_duration_seconds"
        yield from _family(name, "histogram", "Until the answer began to be sent.", [])
        for route, kept in sorted(self._durations.items()):
            so_far = 0.0
            for bound, count in zip((*map(str, _BOUNDS), "+Inf"), kept, strict=False):
                so_far += count
                yield _line(f"{name}_bucket", {"route": route, "le": bound}, so_far)
            yield _line(f"{name}_sum", {"route": route}, kept[-1])
            yield _line(f"{name}_count", {"route": route}, so_far)


def _rows(vitals: Vitals) -> Iterable[str]:
    counts = vitals.counts
    due = [({"noun": noun}, count) for noun, count in counts.due.items()]
    yield from _family("sky_rows_due", "gauge", "Rows that wait for a server to take them.", due)
    held = [({"noun": noun}, count) for noun, count in vitals.held.items()]
    yield from _family("sky_leases", "gauge", "Rows that this server holds.", held)
    phases = [({"phase": phase}, count) for phase, count in sorted(counts.clusters.items())]
    yield from _family("sky_clusters", "gauge", "Living clusters.", phases)
    yield from _family("sky_letters", "gauge", "Events that nobody has read yet.", [({}, counts.letters)])
    yield from _family("sky_orders", "gauge", "Orders whose outcome is not on record.", [({}, counts.orders)])
    kinds = (("read", vitals.reads), ("write", vitals.writes))
    done = [({"kind": kind}, spent.count) for kind, spent in kinds]
    yield from _family("sky_store_transactions_total", "counter", "Transactions.", done)
    took = [({"kind": kind}, spent.seconds) for kind, spent in kinds]
    yield from _family("sky_store_seconds_total", "counter", "Seconds that transactions took.", took)
    yield from _family("sky_node_connections", "gauge", "Connections to machines.", [({}, vitals.connections)])


def _family(name: str, kind: str, help_: str, values: Iterable[tuple[Labels, float]]) -> Iterable[str]:
    yield f"# HELP {name} {help_}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values:
        yield _line(name, labels, value)


def _line(name: str, labels: Labels, value: float) -> str:
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{told}}} {value:.10g}" if told else f"{name} {value:.15g}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
