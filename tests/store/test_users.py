"""Users, tokens, workspaces and the audit log, as they are kept."""

from dataclasses import replace

import pytest

from sky.core.model.audit import AuditLine
from sky.core.model.users import Role, Token, TokenKind, User, UserKind
from sky.store.sqlite import SqliteStore


@pytest.fixture
def store(tmp_path):
    made = SqliteStore(tmp_path / "state.db")
    yield made
    made._db.close()


def token(id: str, user: str = "ann", **facts) -> Token:
    return Token(id, TokenKind.ACCOUNT, user, f"of {user}", "h" * 64, 10.0, **facts)


async def test_users_are_kept_as_they_are(store):
    ann = User("ann", Role.VIEWER, UserKind.PERSON, 5.0, "oidc", "team", False)
    await store.users.put(User("bob", Role.USER, UserKind.SERVICE))
    await store.users.put(replace(ann, role=Role.ADMIN))
    await store.users.put(ann)
    assert await store.users.get("ann") == ann
    assert [each.name for each in await store.users.all()] == ["ann", "bob"]
    assert await store.users.get("eve") is None
    assert await store.users.remove("ann")
    assert not await store.users.remove("ann")


async def test_tokens_are_kept_and_go_with_their_user(store):
    full = token(
        "1", role=Role.USER, workspaces=("a", "b"), expires_at=20.0, lifetime_s=10.0, renew_until=30.0, made_by="lea"
    )
    await store.users.put(User("ann", Role.USER))
    await store.users.put_token(full)
    await store.users.put_token(token("2", "bob"))
    assert await store.users.token("1") == full
    await store.users.used("1", 15.0)
    assert (await store.users.token("1")).used_at == 15.0
    assert [each.id for each in await store.users.tokens("bob")] == ["2"]
    assert {each.id for each in await store.users.tokens()} == {"1", "2"}
    await store.users.remove("ann")
    assert await store.users.token("1") is None


async def test_tokens_that_are_over_are_swept(store):
    await store.users.put_token(token("old", expires_at=10.0))
    await store.users.put_token(token("gone", revoked_at=10.0))
    await store.users.put_token(token("good", expires_at=99.0))
    await store.users.put_token(token("ever"))
    assert await store.users.sweep(50.0) == 2
    assert {each.id for each in await store.users.tokens()} == {"good", "ever"}
    assert token("x", expires_at=10.0).good(9.9)
    assert not token("x", expires_at=10.0).good(10.0)
    assert not token("x", revoked_at=1.0).good(0.0)


async def test_workspaces_are_kept(store):
    await store.users.put_workspace("team", {"private": True})
    await store.users.put_workspace("team", {"private": False, "aws": {"disabled": True}})
    await store.users.put_workspace("other", {})
    assert await store.users.workspaces() == {"other": {}, "team": {"private": False, "aws": {"disabled": True}}}
    await store.users.put_workspace("other", None)
    assert list(await store.users.workspaces()) == ["team"]


async def test_the_audit_log_is_read_newest_first(store):
    for at in range(5):
        await store.audit.add(
            AuditLine(float(at), f"c{at}", "ann" if at % 2 else "bob", "token", "127.0.0.1", "POST /x")
        )
    assert [line.call for line in await store.audit.read(limit=3)] == ["c4", "c3", "c2"]
    assert [line.call for line in await store.audit.read(limit=9, user="ann")] == ["c3", "c1"]
    assert [line.call for line in await store.audit.read(limit=9, since=3.0)] == ["c4", "c3"]
    first = await store.audit.read(limit=2)
    assert [line.call for line in await store.audit.read(limit=2, before=first[-1].seq)] == ["c2", "c1"]
    assert first[0] == AuditLine(4.0, "c4", "bob", "token", "127.0.0.1", "POST /x", seq=5)
