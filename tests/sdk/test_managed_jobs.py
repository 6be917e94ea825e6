"""Managed jobs as programs see them: ids that are a list and a number, records, logs, waiting."""

import asyncio
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from serving import Served

import sky.jobs.client.sdk as plain
from sky import jobs
from sky.core import errors
from sky.core.lifecycle import managed_jobs as life
from sky.core.model.managed_jobs import ManagedJob, ManagedTask, Stage, Where
from sky.core.model.statuses import ManagedJobScheduleState, ManagedJobStatus
from sky.jobs.client import sdk_async
from sky.sdk import managed_jobs, requests
from sky.sdk.records import JobIds
from sky.server.identity import owner


@pytest.mark.parametrize("use", [int, str, "{}".format, lambda ids: [0, 1, 2, 3][ids], lambda ids: {3: "x"}[ids]])
def test_one_id_is_that_number(use: Any) -> None:
    assert use(JobIds([3])) == use(3)


def test_ids_are_a_list() -> None:
    ids = JobIds([3])
    assert (ids == 3, ids == 3, ids == [3], ids != 4, ids != [4]) == (True,) * 5
    assert (json.dumps(ids), repr(ids), list(ids), ids[0]) == ("[3]", "[3]", [3], 3)
    several = JobIds([3, 4])
    assert (f"{several}", several == 3) == ("[3, 4]", False)
    with pytest.raises(TypeError, match="2 managed jobs"):
        int(several)


def put(served: Served, count: int = 1, **changes: Any) -> list[ManagedJob]:
    """Jobs on record, as they are to be."""
    store = served.plane.store
    where = Where("aws", "us-east-1", "us-east-1a", "p4d", True, 9.5, "(A100:8)")
    task = ManagedTask("t", where=where, **changes.pop("task", {}))
    drawn = ManagedJob(
        "j", 0, "k", "train", owner(), "default", Stage.WAITING, 0, 5.0, (task,), request_id=f"r{count}",
        task_configs={"0": {"run": "true", "secrets": {"KEY": "hidden-value"}}},
    )  # fmt: skip
    made = [replace(drawn, id=f"j{count}{at}", key=f"k{count}{at}", **changes) for at in range(count)]
    return asyncio.run(store.managed_jobs.open([life.Step(each, (), "opened") for each in made], 5.0))


def test_launch_is_put_on_record_with_its_tasks(served: Served) -> None:
    request = jobs.launch([{"name": "a", "run": "true"}, {"name": "b", "run": "true"}], "both", num_jobs=2)
    body = served.plane.rows[request].body
    assert ([task["name"] for task in body["dag"]["tasks"]], body["dag"]["edges"]) == (["a", "b"], [[0, 1]])
    assert (body["name"], body["num_jobs"]) == ("both", 2)
    later = served.plane.rows[jobs.launch({"run": "true"}, after=[3], after_any=[4, 5])].body
    assert (later["after"], later["after_any"]) == ([3], [4, 5])
    graph = [{"name": "a", "run": "true"}, {"name": "b", "run": "true", "depends_on": []}]
    assert "edges" not in served.plane.rows[jobs.launch(graph)].body["dag"]
    with pytest.raises(errors.InvalidSkyPilotConfigError, match="did you mean 'run'"):
        jobs.launch({"rum": "x"})


def test_a_launch_from_within_a_group_goes_into_it_unless_it_says_otherwise(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def group(**words: Any) -> tuple[Any, Any]:
        body = served.plane.rows[jobs.launch({"run": "true"}, **words)].body
        return body.get("job_group"), body.get("job_group_lax")

    assert group() == (None, False)
    assert group(job_group=7) == ("7", False)
    monkeypatch.setenv("SKYPILOT_JOBGROUP_NAME", "pair")
    monkeypatch.setenv("SKYPILOT_MANAGED_JOB_ID", "4")
    assert group() == (None, False), "not without the server's address, as a job has it"
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", f"unix://{served.settings.socket}")
    assert group() == ("4", True)
    assert group(job_group=None) == (None, False)
    assert group(job_group="other") == ("other", False)


def test_the_queue_tells_of_each_task(served: Served) -> None:
    put(served, task={"status": ManagedJobStatus.RUNNING, "recoveries": 2}, stage=Stage.RUNNING)
    (record,) = requests.get(jobs.queue())
    assert (record.job_id, record["job_name"], record.recovery_count) == (1, "train", 2)
    assert record.status is ManagedJobStatus.RUNNING
    assert record.schedule_state is ManagedJobScheduleState.ALIVE
    assert (record.infra, record.use_spot, record.price_hourly) == ("aws/us-east-1/us-east-1a", True, 9.5)
    assert "hidden-value" not in json.dumps(record)


def test_lists_can_be_narrowed(served: Served) -> None:
    put(served, 3)

    def ids(**asked: Any) -> list[int]:
        return [each.job_id for each in requests.get(jobs.queue_v2(**asked))[0]]

    assert ids() == [3, 2, 1]
    assert ids(limit=1) == [3]
    assert ids(job_ids=[1, 2]) == [2, 1]
    assert ids(sort_by="job_id") == [1, 2, 3]
    assert ids(statuses=[ManagedJobStatus.FAILED]) == []
    assert ids(infra_match="us-east", limit=2) == [3, 2]
    assert ids(name_match="nobody") == []
    assert ids(submitted_after=6.0) == []
    records, total, counts, everything = requests.get(jobs.queue(version=2))
    assert (len(records), total, counts, everything) == (3, 3, {"PENDING": 3}, 3)
    assert requests.get(jobs.queue_v2(fields=["job_id"], limit=1))[0] == [{"job_id": 3}]
    with pytest.raises(errors.ClientError, match="allowed: PENDING"):
        jobs.queue_v2(statuses=["ASLEEP"])


def test_logs_outlive_clusters_and_are_read_over_all_attempts(served: Served) -> None:
    over = {"status": ManagedJobStatus.SUCCEEDED, "attempts": (1, 2)}
    put(served, task=over, stage=Stage.DONE, ended_at=9.0)
    for attempt, text in ((1, b"one\ntwo"), (2, b"three\nfour\n")):
        path = served.plane.logs.path(1, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    out = io.StringIO()
    assert jobs.tail_logs(job_id=JobIds([1]), output_stream=out) == 0
    assert out.getvalue() == "one\ntwothree\nfour\n"
    for tail, wanted in ((1, "four\n"), (2, "twothree\nfour\n"), (9, "one\ntwothree\nfour\n")):
        out = io.StringIO()
        jobs.tail_logs(name="train", tail=tail, output_stream=out)
        assert out.getvalue() == wanted
    assert list(jobs.tail_logs(preload_content=False)) == ["one\n", "twothree\n", "four\n"]
    assert jobs.tail_logs(job_id=7) == 102
    assert jobs.tail_logs(job_id=1, task="nobody") == 102
    out = io.StringIO()
    assert jobs.tail_logs(job_id=1, controller=True, output_stream=out) == 0
    assert "opened" in out.getvalue()


@pytest.mark.parametrize("offset", range(9))
def test_an_interrupted_log_goes_on_where_it_was_over_all_tasks(served: Served, offset: int) -> None:
    done = ManagedTask("t", status=ManagedJobStatus.SUCCEEDED)
    tasks = (replace(done, attempts=(1,)), replace(done, attempts=(2,)))
    put(served, tasks=tasks, at=1, stage=Stage.DONE, ended_at=9.0)
    for attempt, text in ((1, b"aaa\n"), (2, b"bbb\n")):
        path = served.plane.logs.path(1, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    followed, _ = managed_jobs.job_stream(None, 1, True, 0, None)
    followed.offset = offset
    assert "".join(followed) == "aaa\nbbb\n"[offset:]
    assert followed.code == 0


def test_waiting_gives_the_exit_code(served: Served) -> None:
    put(served, task={"status": ManagedJobStatus.FAILED}, stage=Stage.DONE, ended_at=9.0)
    put(served, 2, task={"status": ManagedJobStatus.RUNNING}, stage=Stage.RUNNING)
    assert requests.get(jobs.wait(job_id=1)) == 100
    assert requests.get(jobs.wait(job_id=1, task=0)) == 100
    assert requests.get(jobs.wait(job_id=2, timeout=0.1)) == 101
    assert requests.get(jobs.wait(job_id=9)) == 102


async def test_the_same_as_coroutines(served: Served) -> None:
    await asyncio.to_thread(put, served, task={"status": ManagedJobStatus.SUCCEEDED}, stage=Stage.DONE, ended_at=9.0)
    assert [each.job_id for each in await sdk_async.queue()] == [1]
    assert await sdk_async.wait(job_id=1) == 0
    assert await sdk_async.tail_logs(job_id=1, output_stream=io.StringIO()) == 0
    assert plain.queue is jobs.queue


def test_what_others_may_not_see_is_not_there(served: Served) -> None:
    put(served, user="somebody")
    assert requests.get(jobs.queue()) == []
    assert [each.user_name for each in requests.get(jobs.queue(all_users=True))] == ["somebody"]
