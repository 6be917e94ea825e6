"""Calls about clusters: bring up, run on, stop, tell of."""

import asyncio
from collections.abc import Mapping

from sky.server.api import Api
from sky.server.asgi import Route
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


class StatusBoard:
    """Encoded answers to `/status`, good until something changes."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._kept: dict[tuple[object, ...], tuple[float, bytes]] = {}
        self._changes = 0

    async def watch(self) -> None:
        """Forget answers when clusters change; runs for as long as the server."""
        with self._api.plane.signals.watch("clusters") as watch:
            while True:
                if await watch.changed(3600.0):
                    self._changes += 1
                    self._kept.clear()

    async def answer(self, body: StatusBody) -> bytes:
        """The clusters as JSON."""
        plane = self._api.plane
        refresh = body.refresh.upper() != "NONE"
        names = None if body.cluster_names is None else tuple(body.cluster_names)
        key = (names, body.summary)
        kept = self._kept.get(key)
        now = plane.clock.now()
        if kept is not None and not refresh and 0 <= now - kept[0] <= STATUS_FRESH_S:
            return kept[1]
        changes = self._changes
        clusters = await plane.clusters(names, refresh=refresh)
        last = await plane.last_entries([cluster.id for cluster in clusters])
        told = encode([status_response(each, last.get(each.id), summary=body.summary) for each in clusters])
        if changes == self._changes:
            if len(self._kept) >= MOST_STATUSES:
                self._kept.clear()
            self._kept[key] = (now, told)
        return told


def routes(api: Api, board: StatusBoard) -> list[Route]:
    """The routes of this noun."""
    plane = api.plane

    async def endpoints(body: EndpointsBody) -> Mapping[int, str]:
        return await plane.endpoints(body.cluster, body.port)

    async def cost_report(body: CostReportBody) -> list[CostRecord]:
        now = plane.clock.now()
        clusters = await plane.cost_report(body.days)
        bills = await plane.bills([each.id for each in clusters])
        return [cost_record(each, now, bills.get(each.id, ())) for each in clusters]

    async def ledger(body: LedgerBody) -> list[LedgerRecord]:
        now = plane.clock.now()
        return [ledger_record(line, now) for line in await plane.ledger(question(body, now))]

    async def events(body: ClusterEventsBody) -> list[EventRecord]:
        return [event_record(entry) for entry in await plane.stories(body.cluster_name)]

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


def start_watching(board: StatusBoard) -> "asyncio.Task[None]":
    """Begin to watch for changes; cancel the task to end."""
    return asyncio.ensure_future(board.watch())
