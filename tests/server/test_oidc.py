"""Logins by a real OpenID provider that enforces PKCE: browsers, command lines, groups, and tokens that are no good."""

import asyncio
import base64
import hashlib
import importlib.util
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from townhall import Town

import sky
from sky.core.errors import ApiServerAuthenticationError, InvalidSkyPilotConfigError, ServerTemporarilyUnavailableError
from sky.core.model.users import Role
from sky.kit.clock import SystemClock
from sky.sdk import settings, users
from sky.server import oidc
from sky.server.authentication import Oidc, from_config

httpx = pytest.importorskip("httpx")
pytest.importorskip("authlib")
if importlib.util.find_spec("oidc_provider_mock") is None:
    pytest.skip("oidc-provider-mock is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The address of a provider in a process of its own: it warns of things that are no affair of these tests."""
    program = Path(__file__).with_name("openid_provider.py")
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def ways(issuer: str, port: int, **more: Any) -> dict[str, Any]:
    return {
        "public_url": f"http://127.0.0.1:{port}",
        "oidc": {"issuer": issuer, "client_id": "sky", "plain_http": True, **more},
    }


@contextmanager
def town_with(state: Any, provider: str, **more: Any) -> Iterator[Town]:
    secret = state.parent / "secret"
    secret.write_text("of-the-client\n")
    secret.chmod(0o600)
    made = Town(state, auth=lambda port: ways(provider, port, client_secret_file=str(secret), **more))
    try:
        yield made
    finally:
        made.served.stop()


@contextmanager
def browser(town: Town) -> Iterator[Any]:
    with httpx.Client(base_url=town.url, trust_env=False, timeout=20) as client:
        yield client


def log_in(client: Any, who: str, next: str = "/auth/done") -> Any:
    """Go through the whole login as a browser does; the last answer."""
    to_provider = client.get("/auth/login", params={"next": next})
    assert to_provider.status_code == 302
    answer = client.post(to_provider.headers["location"], data={"sub": who})
    while answer.status_code == 302:
        answer = client.get(answer.headers["location"])
    return answer


def test_a_browser_logs_in_and_is_a_user(state, provider):
    with town_with(state, provider) as town, browser(town) as client:
        answer = log_in(client, "ann")
        assert "Logged in as <b>ann@example.org</b>" in answer.text
        (cookie,) = client.cookies.jar
        assert (cookie.name, cookie.has_nonstandard_attr("HttpOnly")) == ("sky_session", True)
        assert cookie.get_nonstandard_attr("SameSite") == "Lax"
        me = client.get("/users/role").json()
        assert (me["name"], me["role"], me["via"]) == ("ann@example.org", "user", "session")
        line = town.audit()[0]
        assert (line["operation"], line["user"], line["outcome"]) == ("GET /auth/callback", "ann@example.org", "done")
        found = asyncio.run(town.plane.users.get("ann@example.org"))
        assert (found.role, found.made_by) == (Role.USER, "oidc")


def test_a_browsers_session_is_ended(state, provider):
    with town_with(state, provider) as town, browser(town) as client:
        page = log_in(client, "ann")
        assert page.status_code == 200
        kept = client.cookies["sky_session"]
        mark = oidc_mark(kept)
        assert client.post("/auth/logout").status_code == 403, "a change without the mark"
        assert client.post("/auth/logout", headers={"X-Sky-Page": mark}).status_code == 200
        client.cookies.set("sky_session", kept)
        assert client.get("/users/role").status_code == 401


def oidc_mark(session: str) -> str:
    from sky.server import tokens

    found = tokens.parts(session)
    assert found is not None
    return tokens.forgery_mark(found[1])


def test_a_command_line_logs_in_by_a_browser(state, provider):
    with town_with(state, provider) as town, browser(town) as client:
        shown: list[tuple[str, str]] = []
        done: list[Any] = []
        told = threading.Event()

        def tell(page: str, code: str) -> None:
            shown.append((page, code))
            told.set()

        command = threading.Thread(
            target=lambda: done.append(sky.api_login(town.url, no_browser=True, _tell=tell)), daemon=True
        )
        command.start()
        assert told.wait(60)
        page, code = shown[0]
        assert re.fullmatch(r"[B-Z]{4}-[B-Z]{4}", code)
        where = urlsplit(page)
        assert f"{where.scheme}://{where.netloc}" == town.url
        # Whoever opens the page is sent to log in first, and comes back to it.
        first = client.get(page)
        assert first.status_code == 302
        assert first.headers["location"].startswith("/auth/login?next=")
        answer = client.get(first.headers["location"])
        answer = client.post(answer.headers["location"], data={"sub": "bob"})
        while answer.status_code == 302:
            answer = client.get(answer.headers["location"])
        assert code in answer.text
        assert "127.0.0.1" in answer.text
        assert "'unsafe-inline'" not in answer.headers["content-security-policy"]
        mark = re.search(r'"X-Sky-Page": "([0-9a-f]{64})"', answer.text)
        assert mark is not None
        confirm = {"user_code": code}
        assert client.post("/auth/device/confirm", json=confirm).status_code == 403
        headers = {"X-Sky-Page": mark[1], "Origin": "http://evil.example"}
        assert client.post("/auth/device/confirm", json=confirm, headers=headers).status_code == 403
        headers["Origin"] = town.url
        assert client.post("/auth/device/confirm", json=confirm, headers=headers).status_code == 200
        command.join(60)
        assert done
        assert done[0]["name"] == "bob@example.org"
        assert settings.stored_login()["endpoint"] == town.url  # type: ignore[index]
        assert users.me().via == "token"
        # The code is good once.
        assert client.post("/auth/device/confirm", json=confirm, headers=headers).status_code == 400
        sky.api_logout()


def test_a_login_that_waits_is_fetched_by_who_began_it_only(state, provider):
    with town_with(state, provider) as town:
        told = town.call(None, "POST", "/auth/device")[1]
        assert town.call(None, "POST", "/auth/device/token", {"device_code": told["device_code"]})[1] == {
            "status": "pending", "token": None, "user_name": None, "expires_at": None
        }  # fmt: skip
        wrong = told["device_code"][:-1] + ("A" if told["device_code"][-1] != "A" else "B")
        for code in (wrong, "", told["user_code"], town.move_in("ann")):
            assert town.call(None, "POST", "/auth/device/token", {"device_code": code})[0] == 401
        # It opens nothing by itself, and no token of a user confirms it: that takes a browser.
        assert town.call(told["device_code"], "POST", "/status", {})[0] == 401
        confirm = {"user_code": told["user_code"]}
        assert town.call(None, "POST", "/auth/device/confirm", confirm)[0] == 401
        assert town.call(town.move_in("bob"), "POST", "/auth/device/confirm", confirm)[0] == 400


def test_waiting_logins_are_few(state, provider, monkeypatch):
    from sky.server.routes import login

    monkeypatch.setattr(login, "MOST_WAITING", 2)
    with town_with(state, provider) as town:
        assert [town.call(None, "POST", "/auth/device")[0] for _ in range(3)] == [200, 200, 503]


def test_groups_give_roles(state, provider):
    roles = {"ops": "admin", "staff": "viewer"}
    with town_with(state, provider, roles=roles) as town:
        for who, role in (("ann", "admin"), ("bob", "viewer")):
            with browser(town) as client:
                log_in(client, who)
                assert client.get("/users/role").json()["role"] == role
        with browser(town) as client:
            refused = log_in(client, "out")
            assert refused.status_code == 401
            assert "None of the groups" in refused.text
            assert client.get("/users/role").status_code == 401
        assert asyncio.run(town.plane.users.get("out@example.org")) is None


def test_an_address_that_nobody_verified_is_nobodys(state, provider):
    with town_with(state, provider) as town, browser(town) as client:
        answer = log_in(client, "eve")
        assert answer.status_code == 401
        assert "not verified" in answer.text
        assert client.get("/users/role").status_code == 401


def test_who_is_shut_out_stays_out(state, provider):
    with town_with(state, provider) as town, browser(town) as client:
        log_in(client, "ann")
        with town.as_(town.owner):
            users.update_user("ann@example.org", disabled=True)
        assert client.get("/users/role").status_code == 401
        assert log_in(client, "ann").status_code == 401


def test_a_login_is_ended_in_the_browser_that_began_it(state, provider):
    with town_with(state, provider) as town, browser(town) as mine, browser(town) as theirs:
        begun = theirs.get("/auth/login")
        answer = theirs.post(begun.headers["location"], data={"sub": "out"})
        back = answer.headers["location"]
        # Somebody has my browser end their login, so that I work as them without noticing.
        assert mine.get(back).status_code == 401
        mine.get("/auth/login")
        assert mine.get(back).status_code == 401
        assert theirs.get(back).status_code == 302
        assert theirs.get(back).status_code == 401, "a login ends once"


@pytest.mark.parametrize(
    "next", ["//evil.example", "https://evil.example", "/\\evil", "/a//b", "javascript:x", "/x\r\nset-cookie: a=b"]
)
def test_a_login_goes_on_here_only(next):
    assert oidc.safe_next(next) == "/auth/done"
    assert oidc.safe_next("/auth/device?user_code=ABCD-EFGH") == "/auth/device?user_code=ABCD-EFGH"


def test_a_provider_that_is_away_is_said_so(state):
    with town_with(state, "http://127.0.0.1:9") as town:
        status, told = town.call(None, "GET", "/auth/login")
        assert (status, told["error"]["type"]) == (503, "ServerTemporarilyUnavailableError")
        assert "127.0.0.1:9" in told["error"]["message"]


# --- ID tokens -------------------------------------------------------------------------------------------------------

ISSUER = "https://login.example.org"


class Signer:
    """Makes ID tokens that are as bad as a test wants, and a provider that would take good ones."""

    def __init__(self) -> None:
        from joserfc.jwk import KeySet, OctKey, RSAKey

        self.key, self.other = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
        self.secret = OctKey.generate_key(256)
        self.algorithms = ["RS256", "HS256", "none"]
        self.issuer = ISSUER
        jwks = KeySet([self.key]).as_dict()
        self.provider = oidc.Provider(Oidc(ISSUER, "sky"), "https://sky.example.org/auth/callback", SystemClock())

        async def fetch(url: str, *_: Any) -> Any:
            if url.endswith("jwks"):
                return jwks
            return {
                "issuer": self.issuer,
                "authorization_endpoint": f"{ISSUER}/authorize",
                "token_endpoint": f"{ISSUER}/token",
                "jwks_uri": f"{ISSUER}/jwks",
                "id_token_signing_alg_values_supported": self.algorithms,
            }

        self.provider._fetch = fetch  # type: ignore[method-assign]

    def token(self, key: Any = None, alg: str = "RS256", **claims: Any) -> dict[str, Any]:
        from joserfc import jwt

        now = int(SystemClock().now())
        told = {"iss": ISSUER, "aud": "sky", "sub": "1", "iat": now, "exp": now + 60, "nonce": "n", **claims}
        told = {name: value for name, value in told.items() if value is not None}
        return {"id_token": jwt.encode({"alg": alg}, told, key or self.key, algorithms=[alg])}


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


async def test_a_good_token_is_taken(signer):
    assert (await signer.provider._claims(signer.token(), "n"))["sub"] == "1"
    assert (await signer.provider._claims(signer.token(aud=["sky"]), "n"))["sub"] == "1"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"nonce": "other"},
        {"nonce": None},
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"nbf": 10**12},
        {"azp": "other"},
    ],
    ids=str,
)
async def test_a_token_with_a_wrong_claim_is_not(signer, claims):
    with pytest.raises(ApiServerAuthenticationError, match="not valid"):
        await signer.provider._claims(signer.token(**claims), "n")


async def test_a_token_that_the_provider_did_not_sign_is_not(signer):
    good = signer.token()["id_token"]
    head, body, signature = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    forged = [
        signer.token(signer.other),
        signer.token(signer.secret, "HS256"),
        {"id_token": f"{none}.{body}."},
        {"id_token": f"{head}.{body}."},
        {"id_token": f"{head}.{body[:-2]}AA.{signature}"},
        {"id_token": "x"},
        {"access_token": "x"},
    ]
    for token in forged:
        with pytest.raises(ApiServerAuthenticationError):
            await signer.provider._claims(token, "n")


async def test_the_public_key_is_no_secret(signer):
    """The old trick: sign with the provider's public key as if it were a shared secret."""
    import hmac
    import json

    pem = signer.key.as_pem(private=False)
    claims = base64.urlsafe_b64decode(signer.token()["id_token"].split(".")[1] + "==")
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256"}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(claims).rstrip(b"=")
    made = hmac.new(pem, head + b"." + body, hashlib.sha256).digest()
    token = (head + b"." + body + b"." + base64.urlsafe_b64encode(made).rstrip(b"=")).decode()
    with pytest.raises(ApiServerAuthenticationError):
        await signer.provider._claims({"id_token": token}, "n")


async def test_a_provider_of_another_name_is_not_believed():
    signer = Signer()
    signer.issuer = "https://evil.example"
    with pytest.raises(ServerTemporarilyUnavailableError, match="configured as"):
        await signer.provider.begin("/")


async def test_what_is_asked_of_the_provider(signer):
    begun = await signer.provider.begin("/x")
    query = parse_qs(urlsplit(begun.url).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["response_type"] == ["code"]
    assert query["redirect_uri"] == ["https://sky.example.org/auth/callback"]
    assert all(len(query[key][0]) > 40 for key in ("state", "nonce", "code_challenge"))
    for query_back in ({}, {"state": "x", "code": "c"}, {"state": query["state"][0], "error": "access_denied"}):
        with pytest.raises(ApiServerAuthenticationError):
            await signer.provider.finish(query_back, begun.kept)
    with pytest.raises(ApiServerAuthenticationError, match="another provider"):
        await signer.provider.finish(
            {"state": query["state"][0], "code": "c", "iss": "https://evil.example"}, begun.kept
        )
    for kept in (None, "", "x", "e30", begun.kept[:-4]):
        with pytest.raises(ApiServerAuthenticationError, match="not begun in this browser"):
            await signer.provider.finish({"state": query["state"][0], "code": "c"}, kept)


@pytest.mark.parametrize(
    ("auth", "says"),
    [
        ({"oidc": {"issuer": "https://x", "client_id": "c"}}, "public_url"),
        ({"public_url": "https://s", "oidc": {"issuer": "http://x", "client_id": "c"}}, "https"),
        ({"public_url": "https://s", "oidc": {"issuer": "https://x"}}, "client_id"),
        ({"public_url": "ftp://s"}, "public_url"),
    ],
)
def test_settings_that_are_not_safe_are_refused(auth, says):
    with pytest.raises(InvalidSkyPilotConfigError, match=says):
        from_config(auth)
