"""One refresh of the catalog, as a process of its own: `python -m sky.server.refreshing`, started by `server.catalog`.

A process of its own, because price lists of hundreds of megabytes are parsed: that would hold up the server's answers,
and stay in its memory. It reads its order from stdin and tells what it does by lines of JSON on stdout:
`{"say": text}` while it works, `{"cloud": …, "state": …}` for each outcome.
"""

import fcntl
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from sky.core.errors import CredentialsRejected, NotSupportedError, ProviderFailure
from sky.core.model.catalog import Price, Refreshed, RefreshState, Row, Source, Unchanged
from sky.core.ports import PriceAsk, PriceSource
from sky.kit.clock import SystemClock
from sky.providers.registry import Registry
from sky.providers.web import PublicWeb
from sky.store.catalog.generations import Generations
from sky.store.catalog.merge import Fresh, Outcome, rebuild
from sky.store.catalog.read import Unusable

#: Exit code when another refresh of the same catalog is under way.
BUSY = 3

#: Clouds that are asked at the same time; most of the time they are waited for.
_SIDE_BY_SIDE = 8
#: Seconds that a document may wait in all for a server that asks for fewer calls.
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a refresh is asked for. `sources` are the settings of price sources by cloud.

    `accept`: take also what differs too much from the prices before.
    """

    directory: Path
    clouds: Sequence[str] | None
    if_older_s: float | None
    sources: Mapping[str, Mapping[str, object]]
    accept: bool = False

    def encode(self) -> bytes:
        """As one line of JSON."""
        told = {
            "directory": str(self.directory),
            "clouds": None if self.clouds is None else list(self.clouds),
            "if_older_s": self.if_older_s,
            "accept": self.accept,
            "sources": {cloud: dict(section) for cloud, section in self.sources.items()},
        }
        return json.dumps(told).encode() + b"\n"

    @classmethod
    def decode(cls, line: str) -> "Order":
        """What `encode` made."""
        told = json.loads(line)
        return cls(Path(told["directory"]), told["clouds"], told["if_older_s"], told["sources"], told["accept"])


def refresh(order: Order, registry: Registry, now: float, tell: Callable[[dict[str, object]], None]) -> None:
    """Ask the sources side by side, then make one new generation of all that came."""
    generations = Generations(order.directory)
    known = _known(generations)
    asked: dict[str, PriceSource] = {}
    outcomes: list[Refreshed] = []
    for cloud in registry.places() if order.clouds is None else order.clouds:
        try:
            source = registry.manifest(cloud).price_source()
        except NotSupportedError:
            source = None  # a place that this version knows by name only, or whose provider is not installed
        fetched = [each.fetched for each in known.get(cloud, {}).values()]
        if source is None:
            if order.clouds is not None:
                outcomes.append(Refreshed(cloud, RefreshState.SOURCELESS, "nothing is known that could be asked"))
        elif order.if_older_s is not None and fetched and now - min(fetched) < order.if_older_s:
            outcomes.append(Refreshed(cloud, RefreshState.YOUNG, f"read {_age(now - min(fetched))} ago"))
        else:
            asked[cloud] = source
    fresh: dict[str, Fresh] = {}
    web = PublicWeb(patience_s=_PATIENCE_S)
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        asks = {cloud: PriceAsk(now, known.get(cloud, {}), order.sources.get(cloud, {})) for cloud in asked}
        runs = {pool.submit(_read, cloud, source, web, asks[cloud]): cloud for cloud, source in asked.items()}
        for done, run in enumerate(as_completed(runs), 1):
            cloud = runs[run]
            read, missing = run.result()
            if missing is None:
                fresh[cloud] = read
                said = _read_so(read)
            else:
                outcomes.append(missing)
                said = f"{missing.state}: {missing.detail}"
            tell({"say": f"{cloud}: {said} ({len(runs) - done} to go)"})
    if fresh:
        tell({"say": "Checking what came and building the new catalog…"})
        same = {cloud for cloud, each in fresh.items() if _is_unchanged(each)}
        made = rebuild(generations, fresh, accept=frozenset(fresh) if order.accept else frozenset())
        outcomes += [_judged(each, unchanged=each.cloud in same) for each in made.values()]
    for each in sorted(outcomes):
        tell({**each._asdict(), "state": each.state.value})


def _judged(outcome: Outcome, *, unchanged: bool) -> Refreshed:
    state = RefreshState.KEPT if outcome.kept else RefreshState.UNCHANGED if unchanged else RefreshState.REFRESHED
    return Refreshed(outcome.cloud, state, outcome.reason or "", outcome.rows, outcome.quarantined)


def _is_unchanged(fresh: Fresh) -> bool:
    """Whether all that came is word that nothing changed."""
    kinds = {type(row) for row in fresh.rows}
    return Unchanged in kinds and Price not in kinds


def _known(generations: Generations) -> dict[str, dict[str, Source]]:
    """The documents that today's rows came from, by cloud and URL."""
    found: dict[str, dict[str, Source]] = {}
    try:
        sources = generations.reader().sources()
    except Unusable:
        return found
    for each in sources:
        found.setdefault(each.cloud, {})[each.url] = each
    return found


def _read(cloud: str, source: PriceSource, web: PublicWeb, ask: PriceAsk) -> tuple[Fresh, Refreshed | None]:
    """All rows of a cloud, or why there are none; in a thread of its own."""
    rows: list[Row] = []
    try:
        rows.extend(source(web, ask))
    except CredentialsRejected as error:
        return Fresh(()), Refreshed(cloud, RefreshState.LOCKED, str(error))
    except ProviderFailure as error:
        return Fresh(()), Refreshed(cloud, RefreshState.FAILED, str(error))
    except Exception as error:  # noqa: BLE001 - one source's defect must not take the refresh of the others with it
        return Fresh(()), Refreshed(
            cloud, RefreshState.FAILED, f"defect in its reader: {type(error).__name__}: {error}"
        )
    return Fresh(rows), None


def _read_so(fresh: Fresh) -> str:
    prices = sum(isinstance(row, Price) for row in fresh.rows)
    same = sum(isinstance(row, Unchanged) for row in fresh.rows)
    return f"{prices:,} prices read" if prices or not same else "nothing has changed"


def _age(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _teller(stream: TextIO) -> Callable[[dict[str, object]], None]:
    def tell(what: dict[str, object]) -> None:
        stream.write(json.dumps(what) + "\n")
        stream.flush()

    return tell


def main() -> int:
    """Carry out the order on stdin. Exit code 3: another refresh of the same catalog is under way."""
    order = Order.decode(sys.stdin.readline())
    order.directory.mkdir(parents=True, exist_ok=True)
    lock = os.open(order.directory / "refresh.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return BUSY
    registry = Registry(order.directory, lambda cloud: order.sources.get(cloud, {}))
    refresh(order, registry, SystemClock().now(), _teller(sys.stdout))
    return 0


if __name__ == "__main__":
    sys.exit(main())
