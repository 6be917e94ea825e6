"""Tokens: hashed, scoped, ending, renewed and revoked; service accounts; logins that are kept by the client."""

import asyncio
import json
from dataclasses import replace

import pytest
from sqlalchemy import text
from townhall import Town

import sky
from sky.core.errors import ApiServerAuthenticationError, PermissionDeniedError
from sky.core.model.users import Role, TokenKind
from sky.sdk import clusters, requests, settings, transport, users
from sky.server import tokens
from sky.server.identity import owner


def token_of(town: Town, text: str):
    found = tokens.parts(text)
    assert found is not None
    return asyncio.run(town.plane.users.token(found[0]))


def test_a_token_is_recognised_by_its_hash():
    text, token = tokens.mint(TokenKind.LOGIN, "ann", "t", 100.0, lifetime_s=50.0)
    id, secret = tokens.parts(text) or ("", "")
    assert id == token.id
    assert secret not in repr(token)
    assert len(token.hash) == 64
    assert tokens.opens(token, secret)
    assert not tokens.opens(token, secret[:-1] + ("A" if secret[-1] != "A" else "B"))
    for wrong in ("", "sky_", text + "x", text.upper(), "sky_0_x", text.replace("sky_", "sk_")):
        assert tokens.parts(wrong) is None


def test_a_renewal_goes_up_to_its_end():
    _, token = tokens.mint(TokenKind.LOGIN, "ann", "t", 100.0, lifetime_s=50.0, renew_until=180.0)
    once = tokens.renewed(token, 120.0)
    assert once.expires_at == 170.0
    assert tokens.renewed(once, 119.0) == once, "no life is made shorter"
    last = tokens.renewed(once, 160.0)
    assert last.expires_at == 180.0
    with pytest.raises(ApiServerAuthenticationError, match="any further"):
        tokens.renewed(last, 170.0)
    _, ever = tokens.mint(TokenKind.ACCOUNT, "ann", "t", 100.0)
    assert tokens.renewed(ever, 1e9) == ever
    _, again = tokens.mint(TokenKind.ACCOUNT, "ann", "t", 100.0, lifetime_s=50.0)
    assert tokens.renewed(again, 1000.0).expires_at == 1050.0


def test_only_hashes_are_on_record(town: Town):
    with town.as_(town.owner):
        made = users.create_token("ci")
        told = json.dumps(users.tokens())
    _, secret = tokens.parts(made.token) or ("", "")

    async def read() -> str:
        async with town.plane.users._db.read() as tx:
            return str(await tx.all(text("SELECT * FROM tokens")))

    kept = asyncio.run(read())
    for said in (told, kept, json.dumps(town.audit())):
        assert secret not in said
    assert tokens.hash_of(secret) in kept


@pytest.mark.parametrize(
    "change",
    [
        lambda token, now: replace(token, expires_at=now - 1),
        lambda token, now: replace(token, revoked_at=now - 1),
        lambda token, now: replace(token, kind=TokenKind.SESSION),
        lambda token, now: replace(token, kind=TokenKind.DEVICE),
        lambda token, now: replace(token, user="nobody"),
    ],
    ids=["expired", "revoked", "a browser's", "unconfirmed", "of nobody"],
)
def test_a_token_that_is_no_good_opens_nothing(town: Town, change):
    text = town.move_in("ann")
    assert town.call(text, "POST", "/status", {})[0] == 200
    other = change(replace(token_of(town, text), id="0" * 16), town.plane.clock.now())
    asyncio.run(town.plane.users.add_token(other))
    secret = (tokens.parts(text) or ("", ""))[1]
    assert town.call(f"sky_{other.id}_{secret}", "POST", "/status", {})[0] == 401


def test_who_holds_another_secret_of_an_id_is_refused(town: Town):
    text, other = town.move_in("ann"), town.move_in("bob")
    mixed = f"sky_{(tokens.parts(text) or '')[0]}_{(tokens.parts(other) or '')[1]}"
    status, told = town.call(mixed, "POST", "/status", {})
    assert status == 401
    assert mixed not in str(told)


def test_a_service_account_works_for_itself(town: Town):
    ann = town.move_in("ann")
    with town.as_(ann):
        made = users.create_token("ci", expires_in_days=1)
        assert (made.user_name, made.role) == ("sa-ci", "user")
        with pytest.raises(ValueError, match="already"):
            users.create_token("ci")
    with town.as_(made.token):
        assert (users.me().name, users.me().via) == ("sa-ci", "token")
        requests.get(clusters.launch({"run": "true"}, "a"))
    assert [row.user for row in town.plane.rows.values()] == ["sa-ci"]
    assert token_of(town, made.token).used_at is not None
    with town.as_(ann):
        users.delete_token(made.token_id)
    assert town.call(made.token, "POST", "/status", {})[0] == 401
    assert asyncio.run(town.plane.users.get("sa-ci")) is None


def test_an_account_gets_no_more_than_its_maker_has(town: Town):
    ann, vic = town.move_in("ann"), town.move_in("vic", "viewer")
    town.call(town.owner, "POST", "/workspaces/create", {"workspace_name": "team", "config": {"private": True}})
    with town.as_(ann):
        with pytest.raises(PermissionDeniedError, match="give away the role admin"):
            users.create_token("ci", role="admin")
        with pytest.raises(PermissionDeniedError, match="workspace 'team'"):
            users.create_token("ci", workspaces=["team"])
        bound = users.create_token("ci", workspaces=["default"], role="viewer")
        with pytest.raises(PermissionDeniedError):
            users.set_token_role(bound.token_id, "admin")
    with town.as_(vic), pytest.raises(PermissionDeniedError):
        users.create_token("mine")
    with town.as_(bound.token), pytest.raises(PermissionDeniedError):
        users.create_token("child")
    with town.as_(town.owner):
        town.call(town.owner, "POST", "/users/update", {"user_name": "ann", "role": "viewer"})
    with town.as_(town.owner):
        mighty = users.create_token("mighty", role="admin", workspaces=["default"])
    # Bound to a workspace, it is no admin of the server, whose ever it is.
    assert town.call(mighty.token, "POST", "/users/create", {"username": "x"})[0] == 403


def test_accounts_go_down_with_their_makers(town: Town):
    ann = town.move_in("ann", "admin")
    with town.as_(ann):
        made = users.create_token("ci", role="admin")
    with town.as_(town.owner):
        users.update_user("ann", role="viewer")
    assert asyncio.run(town.plane.users.get("sa-ci")).role is Role.VIEWER
    with town.as_(town.owner):
        users.update_user("ann", disabled=True)
    assert town.call(made.token, "POST", "/status", {})[0] == 401
    with town.as_(town.owner):
        users.delete_user("ann")
    assert asyncio.run(town.plane.users.tokens()) == []


def test_tokens_of_others_are_not_there(town: Town):
    ann, bob = town.move_in("ann"), town.move_in("bob")
    with town.as_(ann):
        made = users.create_token("ci")
        assert {each.user_name for each in users.tokens()} == {"ann", "sa-ci"}
    with town.as_(bob):
        assert {each.user_name for each in users.tokens()} == {"bob"}
        for act in (users.delete_token, users.rotate_token, lambda id: users.set_token_role(id, "viewer")):
            with pytest.raises(ValueError, match="no token"):
                act(made.token_id)
    with town.as_(town.owner):
        assert {each.user_name for each in users.tokens()} == {"ann", "bob", "sa-ci"}


def test_a_token_is_rotated(town: Town):
    ann = town.move_in("ann")
    with town.as_(ann):
        old = users.create_token("ci", workspaces=["default"])
        new = users.rotate_token(old.token_id, 2)
        assert users.set_token_role(new.token_id, "viewer").role == "viewer"
        users.delete_token(old.token_id)
    assert town.call(old.token, "POST", "/status", {})[0] == 401
    assert town.call(new.token, "POST", "/status", {})[0] == 200
    assert town.call(new.token, "POST", "/launch", {"task": {}})[0] == 403
    assert token_of(town, new.token).workspaces == ("default",)


def test_a_long_job_renews_its_token(town: Town):
    with town.as_(town.owner):
        made = users.create_token("long", expires_in_days=1, renewable=True)
        fixed = users.create_token("fixed", expires_in_days=1)
        with pytest.raises(ApiServerAuthenticationError, match="not made with a token"):
            users.renew_token()
    before = token_of(town, made.token)
    asyncio.run(town.plane.users.change_token(replace(before, expires_at=before.expires_at - 80_000)))
    with town.as_(made.token):
        assert users.renew_token().expires_at > before.expires_at - 60
    with town.as_(fixed.token), pytest.raises(ApiServerAuthenticationError, match="any further"):
        users.renew_token()
    assert {row["operation"] for row in town.audit()} >= {"POST /users/tokens/renew"}


@pytest.mark.parametrize("days", [-1, 1e9])
def test_lives_that_are_none(town: Town, days: float):
    assert town.call(town.owner, "POST", "/users/service-account-tokens", {"token_name": "x", "expires_in_days": days})[
        0
    ] == 400  # fmt: skip


def test_a_login_is_kept_and_ended(town: Town):
    ann = town.move_in("ann", lifetime_s=1000.0, renew_until=1e12)
    me = sky.api_login(town.url, service_account_token=ann)
    assert me["name"] == "ann"
    assert settings.login_file().stat().st_mode & 0o777 == 0o600
    assert str(transport.current_endpoint()) == town.url
    assert users.me().name == "ann"
    # Logged in already: the login is tried, and nobody is asked.
    assert sky.api_login(town.url)["name"] == "ann"
    sky.api_logout()
    assert not settings.login_file().exists()
    assert str(transport.current_endpoint()) != town.url
    assert town.call(ann, "POST", "/status", {})[0] == 401, "the login is ended on the server as well"
    with pytest.raises(ValueError, match="no login"):
        sky.api_logout()


def test_a_service_accounts_token_outlives_the_logout(town: Town):
    with town.as_(town.owner):
        made = users.create_token("ci")
    sky.api_login(town.url, service_account_token=made.token)
    sky.api_logout()
    assert town.call(made.token, "POST", "/status", {})[0] == 200


def test_the_owners_own_token_logs_in(town: Town):
    assert sky.api_login(town.url, service_account_token=town.owner)["name"] == owner()
    assert requests.get(clusters.status(all_users=True)) != []
    sky.api_logout()


def test_a_wrong_token_is_not_kept(town: Town):
    with pytest.raises(ApiServerAuthenticationError):
        sky.api_login(town.url, service_account_token="sky_nonsense")
    assert not settings.login_file().exists()
    with pytest.raises(ValueError, match="Say which server"):
        sky.api_login()


def test_a_login_is_renewed_by_being_used(town: Town, monkeypatch: pytest.MonkeyPatch):
    now = town.plane.clock.now()
    ann = town.move_in("ann", lifetime_s=1000.0, renew_until=now + 1e6)
    sky.api_login(town.url, service_account_token=ann)
    before = token_of(town, ann).expires_at
    asyncio.run(town.plane.users.change_token(replace(token_of(town, ann), expires_at=before - 600)))
    assert users.me().name == "ann"
    assert token_of(town, ann).expires_at == before - 600, "not yet"
    monkeypatch.setattr(settings, "now", lambda: now + 600)
    assert users.me().name == "ann"
    assert token_of(town, ann).expires_at >= before
    kept = settings.stored_login()
    assert kept is not None
    assert kept["expires_at"] >= before
    # A login whose token is gone says so, and not that it could not be renewed.
    asyncio.run(town.plane.users.change_token(replace(token_of(town, ann), revoked_at=1.0)))
    monkeypatch.setattr(settings, "now", lambda: now + 6000)
    with pytest.raises(ApiServerAuthenticationError, match="refused the token"):
        users.me()


def test_the_environment_comes_before_a_login(town: Town, monkeypatch: pytest.MonkeyPatch):
    ann, bob = town.move_in("ann"), town.move_in("bob")
    sky.api_login(town.url, service_account_token=ann)
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", town.url)
    assert users.me().name == "ann", "the login is used for its own server"
    monkeypatch.setenv("SKYPILOT_SERVICE_ACCOUNT_TOKEN", bob)
    assert users.me().name == "bob"
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.delenv("SKYPILOT_SERVICE_ACCOUNT_TOKEN")
    assert transport.current_endpoint().token is None, "the login's token went to another server"


def test_a_login_that_cannot_be_read_says_so(state):
    settings.login_file().write_text("{")
    with pytest.raises(ValueError, match="log in again"):
        transport.current_endpoint()
