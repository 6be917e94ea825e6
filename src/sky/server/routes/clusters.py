"""Calls about clusters: bring up, run on, stop, tell of."""

import asyncio
from collections.abc import Mapping, Sequence

from sky.core.errors import ClusterDoesNotExist
from sky.core.model.clusters import Cluster
from sky.core.model.events import Entry
from sky.core.model.users import Caller
from sky.engine.sharing import Rounds
from sky.server.api import Api
from sky.server.asgi import Route
from sky.server.pieces import Pieces, listed
from sky.wire.clusters import (
    AutostopBody,
    ClusterEventsBody,
    CostRecord,
    CostReportBody,
    EndpointsBody,
    EventRecord,
    LaunchBody,
    StartBody,
    StatusBody,
    StatusResponse,
    StopBody,
    cost_record,
    event_record,
    status_response,
)
from sky.wire.codec import encode
from sky.wire.ledger import LedgerBody, LedgerRecord, ledger_record, question

#: Seconds that an encoded status may be told again when no change was signalled; signals are hints, looking is truth.
STATUS_FRESH_S = 1.0
#: Encoded answers kept at a time; one per set of arguments.
MOST_STATUSES = 64
#: Parts of answers that are kept beyond those of an answer and its like.
MOST_TOLD = 1000
_NEVER = (None, b"")


class StatusBoard:
    """Encoded answers to `/status`, good until something changes."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._kept: dict[tuple[object, ...], tuple[float, Pieces]] = {}
        self._changes = 0
        #: Where clusters change all the time none is kept for long, and each takes the longer the more ask for one.
        self._rounds: Rounds[Pieces] = Rounds()
        #: What is told of a cluster, by its id and whether in short, with the cluster as it was then. The store gives
        #: the same one out for as long as it is unchanged.
        self._told: dict[tuple[str, bool], tuple[Cluster, bytes]] = {}

    async def watch(self) -> None:
        """Forget answers when clusters change; runs for as long as the server."""
        with self._api.plane.signals.watch("clusters") as watch:
            while True:
                if await watch.changed(3600.0):
                    self._changes += 1
                    self._kept.clear()

    async def answer(self, body: StatusBody, caller: Caller) -> Pieces:
        """The clusters that the caller may see, as JSON."""
        plane = self._api.plane
        refresh = body.refresh.upper() != "NONE"
        names = None if body.cluster_names is None else tuple(body.cluster_names)
        # Whoever may see the same gets the same answer.
        seer = (caller.user, caller.role, caller.workspaces)
        everybody = body.all_users and self._api.may.all_seeing(caller)
        key = (names, body.summary, body.all_users, body.include_managed, None if everybody else seer)
        kept = self._kept.get(key)
        now = plane.clock.now()
        if kept is not None and not refresh and 0 <= now - kept[0] <= STATUS_FRESH_S:
            return kept[1]
        if refresh:
            return await self._made(body, caller, key)
        return await self._rounds.answer(key, lambda: self._made(body, caller, key))

    async def _made(self, body: StatusBody, caller: Caller, key: tuple[object, ...]) -> Pieces:
        """The answer as of now, kept for others who may see the same."""
        plane, changes, now = self._api.plane, self._changes, self._api.plane.clock.now()
        names = None if body.cluster_names is None else tuple(body.cluster_names)
        refresh = body.refresh.upper() != "NONE"
        known = await plane.clusters(names, refresh=refresh, managed=body.include_managed)
        # A name is a name; a glob means those of one's own, unless everybody's are asked for.
        clusters = await self._api.may.shown(caller, known, everybody=body.all_users, named=names or ())
        told = listed(await self._parts(clusters, summary=body.summary))
        if changes == self._changes:
            if len(self._kept) >= MOST_STATUSES:
                self._kept.clear()
            self._kept[key] = (now, told)
        return told

    async def _parts(self, clusters: Sequence[Cluster], *, summary: bool) -> list[bytes]:
        """What is told of each, encoded; made anew for those that have changed since they were told of last."""
        known = self._told
        if len(known) > 2 * len(clusters) + MOST_TOLD:
            known.clear()
        changed = [each for each in clusters if known.get((each.id, summary), _NEVER)[0] is not each]
        if changed:
            # A line of a cluster's story is written with a version of it: without a new one, there is no new line.
            last = await self._api.plane.last_entries([cluster.id for cluster in changed])
            for each in changed:
                known[each.id, summary] = (each, encode(status_response(each, last.get(each.id), summary=summary)))
        return [known[each.id, summary][1] for each in clusters]


def routes(api: Api, board: StatusBoard) -> list[Route]:
    """The routes of this noun."""
    plane = api.plane

    async def endpoints(body: EndpointsBody, caller: Caller) -> Mapping[int, str]:
        await api.may.to_see(caller, body.cluster)
        return await plane.endpoints(body.cluster, body.port)

    async def cost_report(body: CostReportBody, caller: Caller) -> list[CostRecord]:
        now = plane.clock.now()
        shown = await api.may.shown(caller, await plane.cost_report(body.days))
        bills = await plane.bills([each.id for each in shown])
        return [cost_record(each, now, bills.get(each.id, ())) for each in shown]

    async def ledger(body: LedgerBody, caller: Caller) -> list[LedgerRecord]:
        now = plane.clock.now()
        lines = await api.may.lines(caller, await plane.ledger(question(body, now)))
        return [ledger_record(line, now) for line in lines]

    async def events(body: ClusterEventsBody, caller: Caller) -> list[EventRecord]:
        await api.may.to_see(caller, body.cluster_name)
        told = await plane.stories(body.cluster_name)
        if not api.may.all_seeing(caller):
            told = await _their_part(api, caller, body.cluster_name, told)
        return [event_record(entry) for entry in told]

    return [
        api.mutation("/launch", LaunchBody, "Run a task on a cluster, brought up for it if need be", {"exec": False}),
        api.mutation("/exec", LaunchBody, "Run a task on a cluster that is up", {"exec": True}),
        api.mutation("/start", StartBody, "Start a stopped cluster again"),
        api.mutation("/stop", StopBody, "Stop a cluster and keep its disks"),
        api.mutation("/down", StopBody, "End a cluster"),
        api.mutation("/autostop", AutostopBody, "Have a cluster stop or end itself when idle"),
        api.read_encoded("/status", StatusBody, list[StatusResponse], "Clusters and how they are", board.answer),
        api.read("/endpoints", EndpointsBody, dict[str, str], "Addresses of a cluster's open ports", endpoints),
        api.read("/cost_report", CostReportBody, list[CostRecord], "What clusters have cost", cost_report),
        api.read("/ledger", LedgerBody, list[LedgerRecord], "Everything that is billed, line by line", ledger),
        api.read("/cluster_events", ClusterEventsBody, list[EventRecord], "The story of a cluster", events),
    ]


async def _their_part(api: Api, caller: Caller, name: str, told: Sequence[Entry]) -> list[Entry]:
    """Of a story what the caller may know: earlier clusters of the name may have been somebody else's."""
    ever = [each for each in await api.plane.cost_report(None) if each.name == name]
    theirs = {each.id for each in await api.may.shown(caller, ever)}
    kept = []
    of: dict[str, str | None] = {}
    for entry in told:
        id: str | None = entry.entity_id
        if entry.entity == "job":
            if entry.entity_id not in of:
                job = await api.plane.job(entry.entity_id)
                of[entry.entity_id] = job.cluster_id if job else None
            id = of[entry.entity_id]
        if id in theirs:
            kept.append(entry)
    if not kept:
        raise ClusterDoesNotExist(f"Cluster '{name}' not found. `sky status` lists those that exist.")
    return kept


def start_watching(board: StatusBoard) -> "asyncio.Task[None]":
    """Begin to watch for changes; cancel the task to end."""
    return asyncio.ensure_future(board.watch())
