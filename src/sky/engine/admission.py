"""Lets waiting managed jobs begin, in turn and within bounds; `core.policy.admission` decides. Run by `plane`."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from sky.core.lifecycle.managed_events import Admitted
from sky.core.policy.admission import Bounds, UnderWay, Waiting, admitted
from sky.core.ports import Store
from sky.engine.duties import Alone, Duties
from sky.engine.post import Post
from sky.kit.clock import Clock
from sky.kit.signals import Signals

log = logging.getLogger(__name__)

#: Seconds between looks without a wake-up, and the least between two of them.
_LOOK_S, _PAUSE_S = 2.0, 0.2
#: Those of the longest wait that are considered at a time: as many as begin in a round when thousands do one after
#: another; more where there is room for more, or where some have to be passed over.
_FEW, _MOST = 50, 1000


class Admission:
    """The loop. `section` gives a section of the server's configuration as it is now."""

    def __init__(
        self,
        store: Store,
        post: Post,
        clock: Clock,
        signals: Signals,
        section: Callable[[str], Mapping[str, object]],
        duties: Duties | None = None,
    ) -> None:
        self._store = store
        self._post = post
        self._clock = clock
        self._signals = signals
        self._section = section
        self._duties = duties or Alone()
        #: Those that were told that it is their turn, and have not read it yet.
        self._told: dict[str, Waiting] = {}
        #: The same, of those who wait for a worker, by pool.
        self._told_in: dict[str, frozenset[str]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        with self._signals.watch("managed_jobs:room") as room:
            while True:
                try:
                    if self._duties.has("sweep"):
                        await self.once()
                except Exception:  # a full disk, say: there is another round
                    log.exception("managed jobs cannot be admitted just now")
                await self._clock.sleep(_PAUSE_S)
                await room.changed(_LOOK_S)

    async def once(self) -> list[str]:
        """Admit whom there is room for; their ids."""
        rows, bounds, told = self._store.managed_jobs, self.bounds(), self._told
        chosen = await self._to_workers()
        for most in (len(told) + _FEW, len(told) + _MOST):
            waiting = {each.id: each for each in await rows.waiting(most)}
            self._told = {id: each for id, each in told.items() if id in waiting}
            fresh = [each for each in waiting.values() if each.id not in self._told]
            if not fresh:
                return chosen
            now = _with(await rows.under_way(), self._told.values())
            begun = admitted(fresh, now, bounds)
            if len(waiting) < most or len(begun) >= min(bounds.launching - now.launching, bounds.alive - now.alive):
                break
        # After a crash one may be told twice, and takes no notice of the second time.
        self._told |= {id: waiting[id] for id in begun}
        await self._post.send_all("managed_job", rows, begun, Admitted())
        return [*chosen, *begun]

    async def _to_workers(self) -> list[str]:
        """Tell as many of those who wait for a worker as there are free ones; which one each gets, it sees itself."""
        rows, told = self._store.managed_jobs, self._told_in
        chosen: list[str] = []
        self._told_in = {}
        for pool, free in (await self._store.pools.free()).items():
            known = told.get(pool, frozenset())
            waiting = [each.id for each in await rows.waiting_in(pool, free + len(known))]
            still = known.intersection(waiting)
            room = free - len(still) - await rows.placing_in(pool)
            begun = [id for id in waiting if id not in known][: max(0, room)]
            await self._post.send_all("managed_job", rows, begun, Admitted())
            self._told_in[pool] = still.union(begun)
            chosen += begun
        return chosen

    def bounds(self) -> Bounds:
        """What `jobs` in the configuration says."""
        usual, said = Bounds(), self._section("jobs")

        def number(key: str, else_: int) -> int:
            value = said.get(key)
            return int(value) if isinstance(value, int | float) and value >= 1 else else_

        alive = number("running_at_once", usual.alive)
        return Bounds(
            number("launches_at_once", usual.launching),
            alive,
            number("running_per_user", alive),
            number("running_per_workspace", alive),
        )


def _with(now: UnderWay, told: Iterable[Waiting]) -> UnderWay:
    """What is under way, with those that are about to be."""
    several = list(told)
    return UnderWay(
        now.launching + len(several),
        Counter(now.users) + Counter(each.user for each in several),
        Counter(now.workspaces) + Counter(each.workspace for each in several),
    )
