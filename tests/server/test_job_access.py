"""The token of a managed job: only where it is asked for, of its user and workspace alone, gone with its attempt."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from sky.core.model.users import Role, TokenKind
from sky.kit.clock import SystemClock
from sky.server import tokens
from sky.server.assembly import build
from sky.server.job_access import JobAccess, id_of, lifetime
from sky.server.settings import Settings
from sky.sim.managed_job_contract import managed
from sky.store.sqlite import SqliteStore

ON = {"api_access": True}


@pytest.fixture
async def users(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    await store.connect()
    yield store.users
    await store.close()


@pytest.fixture
def access(tmp_path, users):
    def made(host="10.0.0.1", **said):
        return JobAccess(Settings(tmp_path, host, 46580), users, SystemClock(), lambda name: said)

    return made


@pytest.mark.parametrize(
    ("host", "said", "wanted", "endpoint"),
    [
        ("10.0.0.1", {}, True, None),
        ("10.0.0.1", ON, False, None),
        (None, ON, True, None),
        ("0.0.0.0", ON, True, None),
        ("10.0.0.1", ON, True, "http://10.0.0.1:46580"),
        ("fe80::1", ON, True, "http://[fe80::1]:46580"),
        ("0.0.0.0", {**ON, "api_endpoint": "https://sky.example"}, True, "https://sky.example"),
    ],
)
async def test_who_is_given_what(access, users, host, said, wanted, endpoint):
    given = await access(host, **said).give(managed("a"), wanted=wanted)
    assert given.envs == ({} if endpoint is None else {"SKYPILOT_API_SERVER_ENDPOINT": endpoint})
    assert len(await users.tokens()) == len(given.secrets) == (endpoint is not None)


async def test_it_may_no_more_than_its_user_in_its_workspace_and_ends_with_the_attempt(access, users):
    job, made = replace(managed("a"), attempt=1), access(**ON)
    text = (await made.give(job, wanted=True)).secrets["SKYPILOT_SERVICE_ACCOUNT_TOKEN"]
    id, secret = tokens.parts(text)
    token = await users.token(id)
    assert tokens.opens(token, secret)
    assert (token.kind, token.user, token.role, token.workspaces) == (
        TokenKind.ACCOUNT, "u", Role.USER, ("default",)
    )  # fmt: skip
    assert token.expires_at - token.created_at == tokens.DAY_S * 7
    # The order is carried out again after a crash: another one, and the end takes both.
    again = (await made.give(job, wanted=True)).secrets["SKYPILOT_SERVICE_ACCOUNT_TOKEN"]
    following = await made.give(replace(job, attempt=2), wanted=True)
    assert again != text
    await made.take_back(job)
    await made.take_back(job)
    assert {each.id for each in await users.tokens() if each.revoked_at is None} == {id_of(replace(job, attempt=2), 0)}
    assert tokens.parts(following.secrets["SKYPILOT_SERVICE_ACCOUNT_TOKEN"])[0] == id_of(replace(job, attempt=2), 0)


def test_it_lasts_as_long_as_the_job_may_run():
    limited = {"0": {"resources": {"job_recovery": {"max_run_time": 7200.0, "deadline": 9000.0}}}}
    assert lifetime(replace(managed("a"), task_configs=limited)) == 7200.0 + 3600.0


async def test_a_job_finds_it_and_no_record_has_it_in_clear(tmp_path):
    state, kept = tmp_path / "s", tmp_path / "kept"
    plane = build(Settings(state, "127.0.0.1", 46580, config={"local": {"cpus": 4}, "jobs": ON}))
    await plane.start()
    try:
        run = f'echo "$SKYPILOT_API_SERVER_ENDPOINT $SKYPILOT_SERVICE_ACCOUNT_TOKEN" > {kept}'
        tasks = [{"run": run, "resources": {"infra": "local"}}]
        asked = await plane.submit("jobs/launch", {"dag": {"tasks": tasks, "edges": []}}, user="u")
        assert (await plane.wait(asked.id, 60)).error is None
        job = await plane.managed.by_number(1)
        async with asyncio.timeout(100):
            while (job := await plane.managed.get(job.id)).ended_at is None:
                await asyncio.sleep(0.05)
        endpoint, text = kept.read_text().split()
        id, secret = tokens.parts(text)
        assert endpoint == "http://127.0.0.1:46580"
        assert (await plane.users.token(id)).revoked_at is not None
        await plane.store.durable()
        for each in state.rglob("*"):
            with suppress(FileNotFoundError):  # its cluster is going
                assert not each.is_file() or secret.encode() not in each.read_bytes(), each
    finally:
        await plane.stop()
