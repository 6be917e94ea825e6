"""News of jobs: none is lost and none packed twice over crashes, and a parcel is sent until it is taken."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from sky.core.lifecycle import managed_events as events
from sky.core.lifecycle.machine import Step
from sky.core.model.managed_jobs import ManagedJob, ManagedTask, Stage
from sky.core.model.notifications import read_sinks
from sky.core.model.statuses import ManagedJobStatus as Status
from sky.core.policy.notifications import TRIES, after_failure, wants
from sky.engine.notifications import Notifier
from sky.store.sqlite import SqliteStore

NOW = 1_800_000_000.0


class Clock:
    at = NOW

    def now(self):
        return self.at

    async def sleep(self, seconds):
        self.at += seconds


class Courier:
    def __init__(self):
        self.taken, self.refuses = [], 0

    async def deliver(self, sink, id, payload):
        if self.refuses:
            self.refuses -= 1
            raise OSError("busy")
        self.taken.append((sink.webhook or sink.command, id, payload))


class Bed:
    def __init__(self, lag=0.0):
        self.store, self.clock, self.courier = SqliteStore(), Clock(), Courier()
        self.config = {}
        self.notifier = self.fresh(lag)

    def fresh(self, lag=0.0):
        return Notifier(self.store, self.clock, lambda name: self.config, self.courier, lag_s=lag)

    async def job(self, notify=None, reach="own", id="m1"):
        config = {"0": {"run": "true", "secrets": {"K": "hush"}, **({"notify": notify} if notify else {})}}
        drawn = ManagedJob(id, 0, f"k-{id}", "train", "ann", "default", Stage.WAITING, 0, NOW, (ManagedTask("t"),),
                           task_configs=config, request_id=id, reach=reach)  # fmt: skip
        await self.store.managed_jobs.open([Step(drawn, (), "submitted")], self.clock.at)

    async def move(self, *statuses, id="m1"):
        rows = self.store.managed_jobs
        for status in statuses:
            await rows.post(id, events.Changed(), self.clock.at)
            held = await rows.claim(self.clock.at, 60, "t", 10)
            (claim,) = (each for each in held if each.entity.id == id)
            for other in held:
                if other is not claim:
                    await rows.release(other)
            job = claim.entity
            after = replace(job, tasks=(replace(job.task, status=status),))
            letters = [each.id for each in claim.letters]
            claim = await rows.commit(claim, Step(after, (), f"now {status}"), events.Changed(), now=self.clock.at,
                                      due_at=None, letters=letters)  # fmt: skip
            await rows.release(claim)

    async def round(self):
        await self.notifier.pack()
        await self.notifier.send()

    @property
    def told(self):
        return [payload["status"] for _, _, payload in self.courier.taken]


@pytest.fixture
async def bed():
    made = Bed()
    await made.store.connect()
    await made.notifier.pack()
    yield made
    await made.store.close()


HOOK = {"webhook": "https://example.org/x", "secret": "s3cret"}


async def test_a_job_tells_who_its_yaml_names(bed):
    await bed.job([HOOK])
    await bed.move(Status.RUNNING, Status.RECOVERING, Status.RUNNING, Status.SUCCEEDED)
    await bed.round()
    assert bed.told == ["RECOVERING", "SUCCEEDED"]
    _, id, payload = bed.courier.taken[-1]
    assert (payload["job_id"], payload["job_name"], payload["reason"], payload["id"]) == (
        1,
        "train",
        "now SUCCEEDED",
        id,
    )
    assert "hush" not in str(bed.courier.taken) and "s3cret" not in str(payload)
    await bed.round()
    assert len(bed.told) == 2


async def test_the_configuration_tells_of_all_jobs_and_each_sink_of_what_it_wants(bed):
    bed.config = {"sinks": [{"command": ["a"], "on": ["RUNNING"]}, {"webhook": "https://b", "on": "failed"}]}
    await bed.job()
    await bed.move(Status.RUNNING, Status.FAILED)
    await bed.round()
    assert [(sink, payload["status"]) for sink, _, payload in bed.courier.taken] == [
        (("a",), "RUNNING"), ("https://b", "FAILED"),
    ]  # fmt: skip


async def test_commands_are_run_for_those_alone_who_may_do_everything(bed):
    await bed.job([{"command": "touch x"}])
    await bed.job([{"command": "touch x"}], reach="all", id="m2")
    await bed.move(Status.SUCCEEDED)
    await bed.move(Status.SUCCEEDED, id="m2")
    await bed.round()
    assert [(sink, payload["job_id"]) for sink, _, payload in bed.courier.taken] == [(("/bin/sh", "-c", "touch x"), 2)]


async def test_what_is_not_taken_is_sent_again(bed):
    await bed.job([HOOK])
    await bed.move(Status.SUCCEEDED)
    bed.courier.refuses = 2
    await bed.round()
    await bed.round()
    assert bed.told == [] and bed.courier.refuses == 1, "not at once"
    bed.clock.at += 6
    await bed.round()
    bed.clock.at += 11
    await bed.round()
    assert bed.told == ["SUCCEEDED"]


async def test_a_crash_between_packing_and_sending_loses_nothing(bed):
    await bed.job([HOOK])
    await bed.move(Status.SUCCEEDED)
    await bed.notifier.pack()
    bed.notifier = bed.fresh()
    await bed.round()
    assert bed.told == ["SUCCEEDED"]


async def test_a_crash_before_packing_loses_nothing(bed):
    await bed.job([HOOK])
    await bed.move(Status.FAILED)
    bed.notifier = bed.fresh()
    await bed.round()
    assert bed.told == ["FAILED"]


async def test_lines_that_are_read_again_are_packed_once():
    bed = Bed(lag=10.0)
    await bed.store.connect()
    await bed.notifier.pack()
    await bed.job([HOOK])
    await bed.move(Status.SUCCEEDED)
    for _ in range(20):
        await bed.round()
        bed.clock.at += 1
    assert bed.told == ["SUCCEEDED"]
    assert await bed.store.outbox.changes(await bed.store.outbox.mark(), 10) == []
    await bed.store.close()


async def test_what_was_before_is_not_told():
    bed = Bed()
    await bed.store.connect()
    await bed.job([HOOK])
    await bed.move(Status.SUCCEEDED)
    await bed.round()
    assert bed.told == []
    await bed.store.close()


async def test_sinks_that_make_no_sense_hold_nobody_up(bed):
    bed.config = {"sinks": [{"webhook": "ftp://x"}]}
    await bed.job([HOOK])
    await bed.move(Status.SUCCEEDED)
    await bed.round()
    assert bed.told == ["SUCCEEDED"]


async def test_it_is_given_up_after_about_a_day(bed):
    await bed.job([HOOK])
    await bed.move(Status.SUCCEEDED)
    await bed.notifier.pack()
    (parcel,) = await bed.store.outbox.due(bed.clock.at, 1)
    at, waited = NOW, []
    while True:
        next_at, tries, said = after_failure(parcel, at, "busy")
        if next_at is None:
            break
        waited.append(next_at - at)
        parcel, at = replace(parcel, tries=tries), next_at
    assert tries == TRIES and "given up" in said and waited == sorted(waited)
    assert 20 * 3600 < at - NOW < 30 * 3600


@pytest.mark.parametrize(
    "bad",
    [3, "https://x", [{}], [{"webhook": "ftp://x"}], [{"webhook": "https://x", "command": "y"}],
     [{"webhook": "https://x", "on": ["NEVER"]}], [{"webhook": "https://x", "more": 1}], [HOOK] * 11,
     [{"webhook": "https://" + "x" * 3000}], [["a"]]],
)  # fmt: skip
def test_sinks_are_checked(bad):
    with pytest.raises(ValueError, match="notify"):
        read_sinks(bad)


def test_the_usual_news():
    (sink,) = read_sinks(HOOK)
    words = ("PENDING", "RUNNING", "RECOVERING", "FAILED", "CANCELLED", "budget")
    assert [word for word in words if wants(sink, word)] == ["RECOVERING", "FAILED", "CANCELLED", "budget"]


async def test_a_job_that_names_nobody_is_not_even_read(bed, monkeypatch):
    await bed.job()
    await bed.job([HOOK], id="m2")
    await bed.move(Status.FAILED)
    await bed.move(Status.FAILED, id="m2")
    real, read = bed.store.managed_jobs.get, []

    async def get(id):
        read.append(id)
        return await real(id)

    monkeypatch.setattr(bed.store.managed_jobs, "get", get)
    await bed.round()
    assert (read, bed.told) == (["m2"], ["FAILED"])


async def test_a_job_of_an_older_version_of_the_records_is_read_to_see(bed):
    await bed.job([HOOK])
    async with bed.store._db.write() as tx:
        await tx.change(text("UPDATE managed_jobs SET notifies = NULL"))
    await bed.move(Status.FAILED)
    await bed.round()
    assert bed.told == ["FAILED"]
