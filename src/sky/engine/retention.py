"""Forgets what nobody asks for any more: ended requests, their talk, old stories, uploads, lines of the audit log.

Run by `plane`. What is alive, or was a moment ago, is never touched; what clusters cost is kept for good.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from sky.core.ports import Store
from sky.engine.duties import Alone, Duties
from sky.kit.clock import Clock

log = logging.getLogger(__name__)

#: Seconds between rounds; the first comes this long after the start, which has better things to do.
PERIOD_S = 600.0
#: How long ended requests are kept unless the configuration says otherwise, in hours.
REQUESTS_H = 24.0
#: How long after a cluster's end its story and its jobs' are kept, and uploads after their last use, in seconds.
STORIES_S = 30 * 86400.0
UPLOADS_S = 86400.0
#: How long lines of the audit log are kept unless the configuration says otherwise, in days.
AUDIT_DAYS = 400.0


#: How long after their end managed jobs are kept, with story and log, in seconds.
MANAGED_JOBS_S = 30 * 86400.0


class JobLogs(Protocol):
    """Where logs of managed jobs are kept."""

    def drop(self, number: int) -> None: ...


class TalkFiles(Protocol):
    """Where progress of requests is kept."""

    def drop(self, request_id: str) -> None: ...


#: Removes uploads that no manifest in the collection uses and that were last asked for before a time; how many.
PruneUploads = Callable[[Collection[str], float], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Kept:
    """How long ended requests are kept, in hours, and lines of the audit log, in days; below zero: for ever."""

    requests_h: float = REQUESTS_H
    audit_days: float = AUDIT_DAYS


def kept_of(section: Mapping[str, object]) -> Kept:
    """What the section `api_server` of the configuration says."""

    def number(name: str, usual: float) -> float:
        said = section.get(name)
        return float(said) if isinstance(said, int | float) else usual

    return Kept(number("requests_retention_hours", REQUESTS_H), number("audit_retention_days", AUDIT_DAYS))


class Retention:
    """The loop. `kept` is asked at each round, so that a changed configuration is heeded."""

    def __init__(
        self,
        store: Store,
        talk: TalkFiles,
        uploads: PruneUploads,
        clock: Clock,
        kept: Callable[[], Kept],
        duties: Duties | None = None,
        managed_logs: JobLogs | None = None,
    ) -> None:
        self._managed_logs = managed_logs
        self._store = store
        self._talk = talk
        self._uploads = uploads
        self._clock = clock
        self._kept = kept
        self._duties = duties or Alone()

    async def run(self) -> None:
        """A round now and then, until cancelled."""
        while True:
            await self._clock.sleep(PERIOD_S)
            if not self._duties.has("retention"):
                continue
            try:
                await self.once()
            except Exception:  # a full disk, say: there is another round
                log.exception("retention: cannot be carried out just now")

    async def once(self) -> None:
        """One round."""
        now, kept = self._clock.now(), self._kept()
        requests_before = now - kept.requests_h * 3600 if kept.requests_h >= 0 else 0.0
        while gone := await self._store.forget(requests_before, now - STORIES_S):
            for request_id in gone:
                self._talk.drop(request_id)
            await self._clock.sleep(0)
        while kept.audit_days >= 0 and await self._store.audit.forget(now - kept.audit_days * 86400):
            await self._clock.sleep(0)
        while numbers := await self._store.forget_managed_jobs(now - MANAGED_JOBS_S):
            if self._managed_logs is not None:
                for number in numbers:
                    self._managed_logs.drop(number)
            await self._clock.sleep(0)
        removed = await self._uploads(await self._store.manifests_in_use(), now - UPLOADS_S)
        if removed:
            log.info("retention: %d uploaded files were removed", removed)
