"""Leaves alone, for a while, what a restored back-up does not know. Asked by `sweep` before it ends anything.

Machines that were made after the back-up have no record, and may be somebody's work all the same. For some hours after
a restore they are kept, stand in the ledger and are told of; whoever wants to keep them for good takes their tags off.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from sky.core.lifecycle.billing import UNKNOWN, unknown_machine
from sky.core.lifecycle.placing import HEDGED
from sky.core.model.clusters import Instance
from sky.core.model.ledger import Billed, Booking, Ending, Question
from sky.core.ports import Store
from sky.kit.clock import Clock

log = logging.getLogger(__name__)

#: The values that say when a back-up was put in place, and what is to be told of it.
RESTORED, NOTICE = "restored-at", "notice"
#: The setting below `api_server`, and what counts where it is not set.
GRACE, _USUAL_HOURS = "restore_grace_hours", 24.0

Section = Callable[[str], Mapping[str, object]]


class Quarantine:
    """See the module. `section` gives a section of the configuration as it is now."""

    def __init__(self, store: Store, clock: Clock, section: Section) -> None:
        self._store = store
        self._clock = clock
        self._section = section
        self._restored: float | None = None
        self._asked = False
        self._kept: dict[str, frozenset[str]] = {}

    async def until(self) -> float | None:
        """Until when what is unknown is kept, in seconds since the epoch; None where nothing was restored."""
        if not self._asked:
            # A back-up is put in place while no server runs: it is enough to look once.
            told = await self._store.get_value(RESTORED)
            self._restored = float(told) if told else None
            self._asked = True
        if self._restored is None:
            return None
        hours = self._section("api_server").get(GRACE)
        return self._restored + 3600.0 * (float(hours) if isinstance(hours, int | float) else _USUAL_HOURS)

    async def keeps(self, mark: str) -> bool:
        """Whether what carries this mark is left alone for now: no record knows it, not even one that has ended."""
        until = await self.until()
        if until is None or self._clock.now() >= until:
            return False
        return await self._store.clusters.get(mark.partition(HEDGED)[0]) is None

    async def note(self, cloud: str, listed: Sequence[Instance], kept: Collection[str], regions_all: bool) -> None:
        """Write into the ledger what is kept on a cloud, and what is not there any more; `listed` is all that is.

        `regions_all`: nothing was left out, so that what is not listed is gone.
        """
        until = await self.until()
        if until is None or self._restored is None:
            return
        there = {each.machine or each.id: each for each in listed if each.cluster_id in kept}
        lines = await self._store.ledger.lines(Question(cloud=cloud))
        known = {line.entry.resource: line.entry for line in lines if line.entry.note.startswith(UNKNOWN)}
        begun = tuple(
            unknown_machine(cloud, name, each.cluster_id, self._restored, _day(until))
            for name, each in there.items()
            if name not in known
        )
        now = self._clock.now()
        ended = tuple(
            Ending(Billed.MACHINE, name, entry.cluster_id, now, "gone" if now < until else "removed by the sweep")
            for name, entry in known.items()
            if name not in there and regions_all
        )
        if begun or ended:
            await self._store.ledger.book(Booking(ended, begun))
        before = frozenset() if regions_all or now >= until else self._kept.get(cloud, frozenset())
        await self._tell(cloud, before | frozenset(kept), until)

    async def _tell(self, cloud: str, kept: frozenset[str], until: float) -> None:
        if self._kept.get(cloud, frozenset()) == kept:
            return
        self._kept[cloud] = kept
        text = notice(self._kept, until)
        log.warning("sweep: %s", text or "nothing is left that the restored back-up does not know")
        await self._store.set_value(NOTICE, text)


def notice(kept: Mapping[str, Iterable[str]], until: float) -> str:
    """What is said of things that are kept, by cloud; empty where there are none."""
    marks = [f"{mark} on {cloud}" for cloud in sorted(kept) for mark in sorted(kept[cloud])]
    if not marks:
        return ""
    shown = ", ".join(marks[:10]) + (f" and {len(marks) - 10} more" if len(marks) > 10 else "")
    return (
        f"The back-up that was restored does not know {shown}. They are left alone until {_day(until)} and removed "
        f"then (api_server.{GRACE}); take the tag or label sky-cluster-id off what you want to keep."
    )


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
