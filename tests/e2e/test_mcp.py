"""`sky mcp` as a coding agent has it: its own process, spoken to by the protocol's own client, with a real server."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

mcp = pytest.importorskip("mcp")
from mcp.client.stdio import StdioServerParameters, stdio_client  # noqa: E402

from conftest import Sky  # noqa: E402
from sky.cli.mcp_tools import ADDING, ENDING, LOOKING, Refused, Tools  # noqa: E402

pytestmark = [pytest.mark.e2e]

TASK = "resources: {infra: local}\nrun: echo well done\n"


@pytest.fixture(scope="module")
def home() -> Iterator[Sky]:
    # Not tmp_path: sockets below it need a short path.
    command = Sky(Path(tempfile.mkdtemp(prefix="sky-mcp-")))
    try:
        yield command
    finally:
        command("down", "-a", "-y")
        command("api", "stop")
        shutil.rmtree(command.root, ignore_errors=True)


@asynccontextmanager
async def agent(home: Sky, *words: str, **options):
    """A session with the server, as an agent's program opens one."""
    asked = StdioServerParameters(command=home.program[0], args=["mcp", *words], env=home.env)
    async with stdio_client(asked) as (read, write), mcp.ClientSession(read, write, **options) as session:
        await session.initialize()
        yield session


async def call(session, tool: str, **given):
    told = await session.call_tool(tool, given)
    return json.loads(told.content[0].text)


async def over(session, tool: str, key: str, wanted: str = "SUCCEEDED", **given):
    """What a tool tells once it says that something is over."""
    async with asyncio.timeout(60):
        while True:
            told = await call(session, tool, **given)
            if (told if isinstance(told, dict) else told[0])[key] == wanted:
                return told
            await asyncio.sleep(0.1)


async def test_an_agent_plans_launches_watches_reads_and_stops(home):
    async with agent(home) as session:
        planned = await call(session, "plan", task_yaml=TASK)
        assert (planned["hourly_cost_usd"], planned["needs_confirmation"]) == (0.0, False)
        launched = await call(session, "launch", plan=planned["plan"], cluster="c")
        for _ in range(10):
            told = await call(session, "request", request_id=launched["request_id"])
            if told["status"] != "RUNNING":
                break
        assert told["status"] == "SUCCEEDED", told
        read = await over(session, "logs", "state", cluster="c")
        assert "well done" in read["log"]
        ran = await call(session, "exec", cluster="c", command="echo again")
        assert (await call(session, "request", request_id=ran["request_id"]))["status"] == "SUCCEEDED"
        assert [each["job_id"] for each in await call(session, "queue", cluster="c")] == [2, 1]
        assert (await call(session, "status"))[0]["name"] == "c"
        assert (await call(session, "costs", cluster="c"))["total"] == 0.0
        assert (await call(session, "down", cluster="c"))["error"] == "Refused"
        gone = await call(session, "down", cluster="c", confirm=True)
        assert (await call(session, "request", request_id=gone["request_id"]))["status"] == "SUCCEEDED"
        assert await call(session, "status") == []


async def test_a_managed_job_of_an_agent(home):
    async with agent(home) as session:
        planned = await call(session, "plan", task_yaml=TASK)
        launched = await call(session, "jobs_launch", plan=planned["plan"], name="m")
        told = await call(session, "request", request_id=launched["request_id"])
        assert told["status"] == "SUCCEEDED", told
        (job,) = await over(session, "jobs_queue", "schedule_state", "DONE")
        assert job["status"] == "SUCCEEDED"
        assert "well done" in (await call(session, "jobs_logs", job_id=job["job_id"]))["log"]
        assert "looking for a place" in (await call(session, "jobs_logs", job_id=job["job_id"], decisions=True))["log"]


async def test_tools_say_what_they_may_do(home):
    async with agent(home) as session:
        tools = {each.name: each for each in (await session.list_tools()).tools}
        assert set(tools) == {*LOOKING, *ADDING, *ENDING}
        assert all(tool.description for tool in tools.values())
        assert {name for name, tool in tools.items() if tool.annotations.read_only_hint} == set(LOOKING)
        assert {name for name, tool in tools.items() if tool.annotations.destructive_hint} == set(ENDING)
        assert set(tools["launch"].input_schema["required"]) == {"plan", "cluster"}
        assert "ctx" not in tools["launch"].input_schema["properties"]
    async with agent(home, "--read-only") as session:
        assert {each.name for each in (await session.list_tools()).tools} == set(LOOKING)


async def test_errors_are_told_and_end_nothing(home):
    async with agent(home) as session:
        assert "Refused" in (await call(session, "launch", plan="made up", cluster="c"))["error"]
        assert (await call(session, "logs", cluster="no-such"))["error"] == "ClusterDoesNotExist"
        assert "error" in await call(session, "plan", task_yaml="resources: {cpuss: 2}")
        assert "error" in await call(session, "plan", task_yaml="resources: {infra: local, cpus: 100000}")
        assert (await call(session, "request", request_id="no-such"))["error"]
        assert await call(session, "status") == []


class Priced(Tools):
    """Tools for which everything has a price, since no machine of the tests costs anything."""

    def plan(self, task_yaml: str, cluster: str | None = None):
        told = super().plan(task_yaml, cluster)
        from dataclasses import replace

        self._plans[told["plan"]] = replace(self._plans[told["plan"]], hourly=2.5)
        return told


@pytest.fixture
def here(home, monkeypatch):
    for key in ("HOME", "SKY_STATE_DIR"):
        monkeypatch.setenv(key, home.env[key])


def test_what_costs_money_needs_the_price_said_again(here):
    tools = Priced(allowance=1.0)
    number = tools.plan(TASK)["plan"]
    for said in (None, 0.0, 2.49):
        with pytest.raises(Refused, match=r"2\.50 USD an hour"):
            tools.launch(number, "c", confirm_hourly_cost=said)
        with pytest.raises(Refused):
            tools.jobs_launch(number, confirm_hourly_cost=said)
    assert tools._passed(number, 2.5)
    with pytest.raises(Refused, match="no plan"):
        tools._passed(number, 2.5)
    assert Priced(allowance=2.5).plan(TASK)["needs_confirmation"] is False


@pytest.mark.parametrize(("answer", "launched"), [("accept", True), ("decline", False)])
async def test_where_the_program_can_ask_it_is_the_user_who_agrees(here, home, answer, launched):
    from mcp import Client
    from mcp.types import ElicitResult

    from sky.cli.mcp import served

    asked = []

    async def ask(context, params):
        asked.append(params.message)
        return ElicitResult(action=answer, content={"agree": True} if answer == "accept" else None)

    async with Client(served(Priced()), elicitation_callback=ask) as session:
        planned = await call(session, "plan", task_yaml=TASK)
        given = {"plan": planned["plan"], "cluster": f"asked-{answer}", "confirm_hourly_cost": 2.5}
        told = await session.call_tool("launch", given)
        assert asked == ["This will cost 2.50 USD an hour. Launch it?"]
        assert bool(told.is_error) is not launched, told
        if launched:
            request = json.loads(told.content[0].text)["request_id"]
            await call(session, "request", request_id=request, wait_seconds=25)
            gone = await call(session, "down", cluster=f"asked-{answer}", confirm=True)
            told = await call(session, "request", request_id=gone["request_id"], wait_seconds=25)
            assert told["status"] == "SUCCEEDED", told
        else:
            assert await call(session, "status", cluster=f"asked-{answer}") == []


def test_without_its_library_it_says_what_to_install(home):
    hidden = home.root / "hidden" / "mcp"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('not here')")
    env = {**home.env, "PYTHONPATH": f"{hidden.parent}:{os.environ.get('PYTHONPATH', '')}"}
    import subprocess

    done = subprocess.run([sys.executable, "-m", "sky.cli", "mcp"], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "pip install 'altostratus[mcp]'" in done.stderr
