"""Which server a task talks to: by argument, block, environment and variable, and two servers in one process."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sky
from prefect import flow
from prefect.variables import Variable
from sky.sdk.transport import using_endpoint

from prefect_sky import SkyCredentials, run_sky_task
from prefect_sky.endpoints import chosen

SERVER = """
import sys, sky.local
with sky.local.embedded(sys.argv[1]) as endpoint:
    print(endpoint, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def other(house_open: Any) -> Iterator[str]:
    """The address of a second server. A process of its own, since the embedded one takes the calls of its thread."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(house_open.home / "o")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    yield server.stdout.readline().strip()
    server.communicate(timeout=30)


def launched(address: str | None = None) -> set[str]:
    """Clusters that a server has ever launched."""

    def asked() -> set[str]:
        return {str(each.cluster_name) for each in sky.api_status(all_status=True) if each.cluster_name}

    if address is None:
        return asked()
    with using_endpoint(address):
        return asked()


@flow(name="chosen-server")
def one(folder: str, **which: Any) -> str:
    return run_sky_task.with_options(retries=0)(folder, "ok.yaml", **which)


@pytest.mark.parametrize("way", ["argument", "block", "block's name", "environment", "variable"])
def test_the_server_is_chosen(house: Any, folder: Path, other: str, way: str, monkeypatch: Any) -> None:
    credentials = SkyCredentials(api_server_endpoint=other)
    which: dict[str, Any] = {}
    if way == "argument":
        which = {"api_server_endpoint": other}
    elif way == "block":
        which = {"credentials": credentials}
    elif way == "block's name":
        credentials.save("other-server", overwrite=True)
        which = {"credentials": "other-server"}
    elif way == "environment":
        monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", other)
    else:
        Variable.set("skypilot_api_server_endpoint", other, overwrite=True)
    try:
        cluster = one(str(folder), **which)
    finally:
        if way == "variable":
            Variable.unset("skypilot_api_server_endpoint")
        monkeypatch.undo()
    assert cluster in launched(other)
    assert cluster not in launched()
    with using_endpoint(other):
        assert sky.get(sky.status()) == []


def test_two_servers_in_one_flow(house: Any, folder: Path, other: str) -> None:
    @flow(name="two-servers")
    def both() -> list[str]:
        options = run_sky_task.with_options(retries=0)
        there = options.submit(str(folder), "ok.yaml", api_server_endpoint=other)
        return [options.submit(str(folder), "ok.yaml").result(), there.result()]

    here, there = both()
    assert here in launched() - launched(other)
    assert there in launched(other) - launched()


def test_the_token_goes_to_the_server_that_it_is_for(monkeypatch: Any) -> None:
    block = SkyCredentials(api_server_endpoint="https://a", token="t1")
    monkeypatch.setenv("SKYPILOT_SERVICE_ACCOUNT_TOKEN", "t2")
    assert chosen(None, block) == ("https://a", "t1")
    assert chosen(None, SkyCredentials(api_server_endpoint="https://a")) == ("https://a", None)
    assert chosen("https://b") == ("https://b", "t2")
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", "https://c")
    assert chosen(None) == (None, None), "the SDK reads both by itself"
    assert "t1" not in repr(block) and "t1" not in str(block.model_dump())


def test_a_blocks_client_calls_its_server(house: Any, folder: Path, other: str) -> None:
    client = SkyCredentials(api_server_endpoint=other).get_client()
    task = sky.Task(run="echo hi").set_resources(sky.Resources(infra="local"))
    assert not client.get(client.status(all_users=True))
    client.get(client.launch(task, cluster_name="by-client"))
    assert [each.name for each in client.get(client.status())] == ["by-client"]
    assert house.clusters() == []
    client.get(client.down("by-client"))
    assert list(client.get(client.jobs.queue())) == []
    assert client.Task is sky.Task
