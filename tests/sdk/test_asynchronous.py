"""The asynchronous SDK: the same names, results awaited, many waits at a time."""

import asyncio
import inspect
import io
import threading
from pathlib import Path

import pytest
from serving import Served

from sky.core import errors
from sky.sdk import asynchronous as sdk
from sky.sdk import clusters


async def test_results_are_awaited(served: Served) -> None:
    assert [each.name for each in await sdk.status()] == ["one", "two"]
    job_id, handle = await sdk.launch({"run": "true"}, "one")
    assert (job_id, handle.cluster_name) == (7, "one")
    assert (await sdk.check())["default"]["local"] == ["compute"]
    with pytest.raises(errors.ClusterDoesNotExist):
        await sdk.down("nope")
    with pytest.raises(errors.ClusterDoesNotExist):
        await sdk.queue("nope")
    assert (await sdk.api_info()).status == "healthy"
    assert (await sdk.api_status(all_status=True))[0].name == "sky.down"


async def test_talk_is_relayed_while_waiting(served: Served) -> None:
    out = io.StringIO()
    await sdk.launch({"run": "true"}, "one", stream_logs=sdk.StreamConfig(output_stream=out))
    assert out.getvalue() == "launch begins\nlaunch is over\n"
    out = io.StringIO()
    assert (await sdk.stream_and_get(output_stream=out, tail=1))[0] == 7
    assert out.getvalue() == "launch is over\n"


async def test_logs(served: Served) -> None:
    out = io.StringIO()
    assert await sdk.tail_logs("one", 3, output_stream=out) == 100
    assert out.getvalue() == "hello\nworld\n"
    with pytest.raises(errors.ClusterDoesNotExist):
        await sdk.tail_logs("nope", 3)


async def test_many_waits_hold_no_threads_and_can_be_cancelled(served: Served) -> None:
    served.plane.hold.add("launch")
    ids = [await asyncio.to_thread(clusters.launch, {"run": "true"}) for _ in range(5)]
    before = threading.active_count()
    waits = [asyncio.create_task(sdk.get(ids[number % 5])) for number in range(100)]
    async with asyncio.timeout(60):
        while served.do(lambda: sum(len(each) for each in served.plane.signals._watches.values())) < 101:
            await asyncio.sleep(0.01)
    assert threading.active_count() <= before + 2
    waits[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits[0]
    for id in ids:
        served.do(lambda id=id: served.plane.end(str(id)))
    values = await asyncio.gather(*waits[1:])
    assert {value[0] for value in values} == {7}


def test_names_are_those_of_the_sdk() -> None:
    for name in sdk.__all__:
        assert getattr(sdk, name) is not None
    parameters = inspect.signature(sdk.launch).parameters
    assert "stream_logs" in parameters
    assert list(parameters)[:3] == ["task", "cluster_name", "retry_until_up"]


async def test_missing_extra_is_named(served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ImportError, match=r"altostratus\[async\]"):
        await sdk.get("anything-at-all")
