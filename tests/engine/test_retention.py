"""What is over is forgotten in time; what lives, or may still be asked for, is not."""

import hashlib
import json
import os

import pytest
from sqlalchemy import text

from sky.core.lifecycle.machine import Step
from sky.core.model.audit import AuditLine
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.requests import Request
from sky.core.model.statuses import JobStatus, RequestStatus
from sky.engine.retention import Kept, kept_of
from sky.kit.paths import private_dir

DAY = 86400.0


@pytest.fixture
async def world(plane):
    now = plane.clock.now()

    async def request(id, status, finished_at, **body):
        drawn = Request(id, "stop", "u", status, 0, now, body, finished_at=finished_at)
        async with plane.store._db.write() as tx:
            await plane.store.requests._insert(tx, Step(drawn, (), "asked"), now)
            await tx.change(text("UPDATE requests SET due_at = NULL"))
        await plane.store.set_value(f"request-cluster:{id}", "c 1")
        plane._talk.say(id, "hello")

    async def cluster(id, phase, ended_at=None, request_id=None):
        drawn = Cluster(id, id, "u", "d", phase, 0, now, now, 1, ended_at=ended_at, request_id=request_id)
        await plane.store.clusters.open(Step(drawn, (), "asked"), now)
        await plane.store.set_value(f"heard:{id}", "7")

    async def job(id, cluster_id, phase, **uploads):
        drawn = Job(id, cluster_id, cluster_id, f"r-{id}", "u", phase, JobStatus.PENDING, 0, now, uploads=uploads)
        await plane.store.jobs.open(Step(drawn, (), "asked"), now)

    plane.add_request, plane.add_cluster, plane.add_job = request, cluster, job
    plane.t = now
    return plane


async def values(plane):
    async with plane.store._db.read() as tx:
        return {key for (key,) in await tx.all(text("SELECT key FROM state_values"))}


async def test_ended_requests_go_after_a_day_with_all_that_is_theirs(world):
    now, ended = world.t, RequestStatus.SUCCEEDED
    await world.add_request("old", ended, now - 2 * DAY)
    await world.add_request("new", ended, now - DAY / 2)
    await world.add_request("open", RequestStatus.RUNNING, None)
    await world.add_request("of-a-living-one", ended, now - 2 * DAY)
    await world.add_cluster("c", Phase.STOPPED, request_id="of-a-living-one")
    await world._retention.once()
    left = {id for id in ("old", "new", "open", "of-a-living-one") if await world.store.requests.get(id)}
    assert left == {"new", "open", "of-a-living-one"}
    assert {id for id in (*left, "old") if world.progress_file(id).exists()} == left
    assert "request-cluster:old" not in await values(world) and "request-cluster:open" in await values(world)
    assert await world.store.stories.read("request", "old") == []


async def test_stories_of_clusters_go_a_month_after_their_end_and_costs_stay(world):
    await world.add_cluster("gone", Phase.TERMINATED, world.t - 31 * DAY)
    await world.add_job("j1", "gone", JobPhase.DONE)
    await world.add_cluster("lately", Phase.TERMINATED, world.t - DAY)
    await world.add_job("j2", "lately", JobPhase.DONE)
    await world.add_cluster("alive", Phase.STOPPED)
    await world._retention.once()
    told = {id for id in ("gone", "lately", "alive") if await world.store.stories.read("cluster", id)}
    assert told == {"lately", "alive"}
    assert [await world.store.jobs.get("j1"), (await world.store.jobs.get("j2")).id] == [None, "j2"]
    assert {each.id for each in await world.cost_report(None)} == {"gone", "lately", "alive"}
    assert {key for key in await values(world) if key.startswith("heard:")} == {"heard:alive"}


async def test_uploads_go_a_day_after_their_last_use(world, state):
    def blob(data, age):
        name = hashlib.sha256(data).hexdigest()
        path = private_dir(state / "blobs" / name[:2]) / name
        path.write_bytes(data)
        os.utime(path, (world.t - age, world.t - age))
        return name, path

    _, unused = blob(b"unused", 2 * DAY)
    _, fresh = blob(b"fresh", DAY / 2)
    content, used = blob(b"used", 2 * DAY)
    listed = [{"path": "f", "type": "file", "mode": 420, "size": 4, "hash": content}]
    manifest, manifest_path = blob(json.dumps(listed).encode(), 2 * DAY)
    await world.add_cluster("c", Phase.STOPPED)
    await world.add_job("j1", "c", JobPhase.ON_CLUSTER, src=manifest)
    await world._retention.once()
    assert [each.exists() for each in (unused, fresh, used, manifest_path)] == [False, True, True, True]


async def test_the_configuration_says_how_long(world, monkeypatch):
    await world.add_request("old", RequestStatus.FAILED, world.t - 2 * DAY)
    monkeypatch.setattr(world._retention, "_kept", lambda: Kept(requests_h=-1.0))
    await world._retention.once()
    assert await world.store.requests.get("old") is not None
    monkeypatch.setattr(world._retention, "_kept", lambda: kept_of({"requests_retention_hours": 1}))
    await world._retention.once()
    assert await world.store.requests.get("old") is None


async def test_the_audit_log_is_kept_for_its_time(world, monkeypatch):
    async def line(call, days):
        at = world.t - days * DAY
        await world.audit.add(AuditLine(at, call, "u", "token", "", "POST /down", target="", outcome="done"))

    for number in range(3):
        await line(f"old-{number}", 401)
    await line("recent", 399)
    await line("now", 0)

    async def left():
        return [each.call for each in await world.audit.read(limit=10)]

    await world._retention.once()
    assert await left() == ["now", "recent"]
    monkeypatch.setattr(world._retention, "_kept", lambda: kept_of({"audit_retention_days": -1}))
    await line("old-again", 4000)
    await world._retention.once()
    assert await left() == ["old-again", "now", "recent"]
    monkeypatch.setattr(world._retention, "_kept", lambda: kept_of({"audit_retention_days": 30}))
    await world._retention.once()
    assert await left() == ["now"]
