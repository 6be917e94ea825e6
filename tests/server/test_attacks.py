"""What people with bad intentions send, over raw sockets: each is refused, and nothing of it is carried out."""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from townhall import Town

from sky.core.errors import ClientError, InvalidSkyPilotConfigError, SkyError
from sky.core.model.users import TokenKind
from sky.core.policy.rights import Right
from sky.kit.clock import SystemClock
from sky.server import asgi, blobs, tokens
from sky.server.authentication import from_config, read_authentication
from sky.server.failures import told
from sky.server.identity import Gatekeeper, owner
from sky.server.people import People
from sky.store.sqlite import SqliteStore
from sky.wire import uploads
from sky.wire.openapi import Operation

LAUNCH = b'{"task": {"run": "true"}, "cluster_name": "evil"}'


def http(method: str, path: str, *headers: str, body: bytes = b"", host: str = "127.0.0.1") -> bytes:
    """A request as bytes, on a connection that ends with it."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def status(answer: bytes) -> int:
    """The status of the first answer."""
    return int(answer.split(b" ", 2)[1])


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


@pytest.fixture
def session(town: Town) -> tuple[str, str]:
    """A browser's session of somebody, and the mark that pages of the server send along."""
    text, token = tokens.mint(TokenKind.SESSION, "ann", "browser", town.plane.clock.now(), lifetime_s=600.0)
    town.move_in("ann")
    asyncio.run(town.plane.users.add_token(token))
    secret = (tokens.parts(text) or ("", ""))[1]
    return f"Cookie: sky_session={text}", tokens.forgery_mark(secret)


# --- cross-site request forgery --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Origin: http://evil.example", "X-Sky-Page: {mark}"),
        ("Origin: null", "X-Sky-Page: {mark}"),
        ("Origin: http://127.0.0.1.evil.example", "X-Sky-Page: {mark}"),
        ("Origin: http://127.0.0.1:{port}", "X-Sky-Page: wrong"),
        ("Origin: http://127.0.0.1:{port}",),
        ("Sec-Fetch-Site: cross-site", "X-Sky-Page: {mark}"),
        ("Sec-Fetch-Site: same-site", "X-Sky-Page: {mark}"),
        ("Content-Type: text/plain", "Origin: https://evil.example"),
        ("X-Sky-Page: {other}",),
    ],
)
def test_a_page_of_somebody_else_changes_nothing(town: Town, session: tuple[str, str], headers: tuple[str, ...]):
    cookie, mark = session
    values = {"mark": mark, "port": town.served.settings.port, "other": tokens.forgery_mark("x")}
    sent = [each.format(**values) for each in headers]
    host = f"127.0.0.1:{town.served.settings.port}"
    assert status(town.raw(http("POST", "/launch", cookie, *sent, body=LAUNCH, host=host))) == 403
    assert town.plane.submissions == 0


def test_a_page_of_ours_does(town: Town, session: tuple[str, str]):
    cookie, mark = session
    host = f"127.0.0.1:{town.served.settings.port}"
    sent = (cookie, f"X-Sky-Page: {mark}", f"Origin: http://{host}", "Sec-Fetch-Site: same-origin")
    assert status(town.raw(http("POST", "/launch", *sent, body=LAUNCH, host=host))) == 200
    assert [row.user for row in town.plane.rows.values()] == ["ann"]
    assert status(town.raw(http("GET", "/users/role", cookie))) == 200


@pytest.mark.parametrize("cookie", ["sky_session=", "sky_session=x", "sky_session=\x01;;;=", "other=1", "=", ";"])
def test_cookies_that_are_none(town: Town, cookie: str):
    assert status(town.raw(http("GET", "/users/role", f"Cookie: {cookie}"))) in (400, 401)


def test_a_token_for_programs_is_no_cookie(town: Town):
    assert status(town.raw(http("GET", "/users/role", f"Cookie: sky_session={town.move_in('bob')}"))) == 401


# --- other origins, other names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/launch", "/status", "/health", "/users/role", "/api/uploads/" + "0" * 64])
def test_no_other_origin_is_let_in(town: Town, path: str):
    asked = ("Origin: http://evil.example", "Access-Control-Request-Method: POST")
    refused = town.raw(http("OPTIONS", path, *asked))
    assert status(refused) == 405
    for answer in (refused, town.raw(http("GET", "/health", asked[0]))):
        assert b"access-control" not in answer.lower()
        assert b"x-content-type-options: nosniff" in answer.lower()
        assert b"x-frame-options: deny" in answer.lower()


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", "[::2]", "", "127.0.0.1@evil"],
)
def test_a_name_that_is_not_the_servers(town: Town, host: str):
    for path in ("/health", "/users/role"):
        assert status(town.raw(http("GET", path, bearer(town.owner), host=host))) == 400


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:99", "[::1]:80"])
def test_names_that_are(town: Town, host: str):
    assert status(town.raw(http("GET", "/users/role", bearer(town.owner), host=host))) == 200


def test_two_names_are_none(town: Town):
    answer = town.raw(http("GET", "/health", "Host: evil.example"))
    assert status(answer) == 400


def test_a_target_that_names_a_host_is_no_path(town: Town):
    assert status(town.raw(http("GET", "http://evil.example/users/role", bearer(town.owner)))) == 404


def test_two_tokens_are_none(town: Town):
    answer = town.raw(http("GET", "/users/role", bearer("x" * 40), bearer(town.owner)))
    assert status(answer) == 400


# --- paths -----------------------------------------------------------------------------------------------------------

UP = ["..", "../..", "..%2f..%2fetc%2fpasswd", "%2e%2e", "%2e%2e%2f", "..\\..", "%00", "a%00b", ".", "/etc/passwd", "~"]


@pytest.mark.parametrize("way", [*UP, "0" * 63 + "%2f", "0" * 64 + "/..", "%c0%ae%c0%ae/", "....//....//etc"])
def test_no_path_leads_out_of_the_uploads(town: Town, way: str):
    for method in ("PUT", "GET", "POST", "DELETE"):
        answer = town.raw(http(method, f"/api/uploads/{way}", bearer(town.owner), body=b"x"))
        assert status(answer) in (400, 404, 405), (method, answer[:200])
    kept = [path for path in (town.served.settings.state_dir / "blobs").rglob("*") if path.is_file()]
    assert kept == []


def test_every_path_with_a_parameter_is_tried_above():
    """A new one has to be thought about."""
    source = Path(asgi.__file__).parent
    declared = re.compile(r'"(?:GET|PUT|POST|DELETE)",\s*"(/[^"]*\{[^"]*)"')
    found = {each for path in source.rglob("*.py") for each in declared.findall(path.read_text())}
    assert found == {"/api/uploads/{hash}"}


@pytest.mark.parametrize("way", UP)
def test_no_name_in_a_query_or_body_leads_anywhere(town: Town, way: str):
    for path in ("/api/get", "/api/stream"):
        assert status(town.raw(http("GET", f"{path}?request_id={way}&timeout=0", bearer(town.owner)))) == 400
    for path, body in (
        ("/workspaces/create", {"workspace_name": way}),
        ("/users/create", {"username": way + "/x"}),
        ("/users/service-account-tokens", {"token_name": way + "/x"}),
        ("/users/service-account-tokens/delete", {"token_id": way}),
        ("/launch", {"task": {"run": "true"}, "cluster_name": way}),
    ):
        answer = town.raw(http("POST", path, bearer(town.owner), body=json.dumps(body).encode()))
        assert status(answer) in (400, 422), (path, answer)
    assert town.plane.submissions == 0


@pytest.mark.parametrize(
    "path", ["/status/", "//status", "/./status", "/x/../status", "/STATUS", "/status;x", "/%73tatus"]
)
def test_a_path_is_that_path_only(town: Town, path: str):
    answer = town.raw(http("POST", path, bearer(town.owner), body=b"{}"))
    # A letter that is written as its number is that letter, to everybody.
    assert status(answer) == (200 if path == "/%73tatus" else 404)


# --- framing ---------------------------------------------------------------------------------------------------------

INNER = (
    b"POST /launch HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer TOKEN\r\nContent-Length: %d\r\n\r\n"
    % len(LAUNCH)
) + LAUNCH


def framed(*headers: bytes, body: bytes = b"") -> bytes:
    head = [b"POST /status HTTP/1.1", b"Host: 127.0.0.1", b"Authorization: Bearer TOKEN", *headers]
    return b"\r\n".join([*head, b"", b""]) + body


@pytest.mark.parametrize(
    "data",
    [
        framed(b"Content-Length: 2", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        framed(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
        framed(b"Content-Length: 2", b"Content-Length: 0", body=b"{}"),
        framed(b"Content-Length: 2, 0", body=b"{}"),
        framed(b"Content-Length: -1"),
        framed(b"Content-Length: +2", body=b"{}"),
        framed(b"Content-Length: 0x2", body=b"{}"),
        framed(b"Content-Length: 2 2", body=b"{}"),
        framed(b"Content-Length : 2", body=b"{}"),
        framed(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
        framed(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
        framed(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        framed(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n"),
        framed(b"Transfer-Encoding: chunked", body=b"zz\r\n\r\n"),
        framed(b"Transfer-Encoding: chunked", body=b"-1\r\n\r\n"),
        framed(b"Transfer-Encoding: chunked", body=b"ffffffffffffffffffff\r\n"),
        framed(b"X: a\rContent-Length: 2", body=b"{}"),
        framed(b"X: a\x00b"),
        framed(b"Content-Length: 2", b" 0", body=b"{}"),
        b"POST /status HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST  /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /sta tus HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /status HTTP/1.1\r\n\r\n",
    ],
    ids=range(23),
)
def test_framing_that_two_readers_could_read_in_two_ways(town: Town, data: bytes, monkeypatch: pytest.MonkeyPatch):
    """What follows could pass for another call; it must not be read as one."""
    monkeypatch.setattr(asgi, "BODY_PAUSE_S", 1.0)
    answer = town.raw((data + INNER).replace(b"TOKEN", town.owner.encode()))
    assert 400 <= status(answer) < 500, answer[:300]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert town.plane.submissions == 0
    assert town.call(None, "GET", "/health")[0] == 200


# --- sizes -----------------------------------------------------------------------------------------------------------


def test_a_stranger_is_refused_before_anything_is_read(town: Town):
    """The body never comes: the answer does."""
    answer = town.raw(http("POST", "/launch", "Content-Length: 8000000"))
    assert status(answer) == 401
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("path", ["/launch", "/users/create", "/status", "/auth/device/token"])
def test_bodies_are_bounded(town: Town, path: str):
    body = b" " * (asgi.MAX_BODY + 1)
    assert status(town.raw(http("POST", path, bearer(town.owner), body=body))) == 413


def test_heads_are_bounded(town: Town):
    for headers in (["X: " + "a" * 40_000], [f"X{n}: {'a' * 90}" for n in range(500)]):
        assert status(town.raw(http("GET", "/health", *headers))) in (400, 431)
    assert status(town.raw(http("GET", "/health?" + "a" * 40_000))) in (400, 431)
    assert status(town.raw(http("GET", "/users/role", "Cookie: " + "sky_session=x;" * 3000))) in (400, 431)


def test_uploads_leave_room_for_the_records(town: Town, monkeypatch: pytest.MonkeyPatch):
    data = b"x" * 1000
    name = hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(blobs, "_free", lambda root: blobs.RESERVE - 1)
    answer = town.raw(http("PUT", f"/api/uploads/{name}", bearer(town.owner), body=data))
    assert status(answer) == 503
    assert b"no room" in answer
    pack = name.encode() + len(data).to_bytes(8, "big") + data
    assert status(town.raw(http("POST", "/api/uploads/pack", bearer(town.owner), body=pack))) == 503
    monkeypatch.undo()
    assert status(town.raw(http("POST", "/api/uploads/pack", bearer(town.owner), body=pack))) == 200


@pytest.mark.parametrize(
    "pack",
    [
        b"x",
        b"../../../../etc/passwd".ljust(64, b"/") + (1).to_bytes(8, "big") + b"x",
        b"0" * 64 + (2**63).to_bytes(8, "big") + b"x",
        b"0" * 64 + (0).to_bytes(8, "big"),
        b"\xff" * 64 + (0).to_bytes(8, "big"),
    ],
    ids=range(5),
)
def test_packs_that_lead_elsewhere_or_lie(town: Town, pack: bytes):
    assert status(town.raw(http("POST", "/api/uploads/pack", bearer(town.owner), body=pack))) == 400
    kept = [path for path in (town.served.settings.state_dir / "blobs").rglob("*") if path.is_file()]
    assert kept == []


def test_a_manifest_is_bounded_before_it_is_read(tmp_path: Path):
    path = tmp_path / "huge"
    with path.open("wb") as out:
        out.truncate(uploads.MOST_MANIFEST + 1)
    with pytest.raises(ClientError, match="at most"):
        uploads.manifest_file(path)


# --- a proxy that vouches --------------------------------------------------------------------------------------------


@pytest.fixture
def behind(state: Path) -> Iterator[Town]:
    """A server that believes a proxy on this machine which shows a secret."""
    secret = state.parent / "proxy-secret"
    secret.write_text("of-the-proxy-and-nobody-else\n")
    secret.chmod(0o600)
    auth = {
        "public_url": "https://sky.example.org",
        "external_proxy": {"enabled": True, "peers": ["127.0.0.1"], "secret_file": str(secret)},
    }
    made = Town(state, auth=lambda port: auth)
    yield made
    made.served.stop()


SECRET = "X-Sky-Proxy-Secret: of-the-proxy-and-nobody-else"
EMAIL = "X-Auth-Request-Email: ann@example.org"


def test_a_proxy_says_who_calls(behind: Town):
    answer = behind.raw(http("GET", "/users/role", SECRET, EMAIL, host="sky.example.org"))
    assert status(answer) == 200
    assert b'"name":"ann@example.org","role":"user","via":"proxy"' in answer
    assert status(behind.raw(http("POST", "/launch", SECRET, EMAIL, body=LAUNCH))) == 200
    assert [row.user for row in behind.plane.rows.values()] == ["ann@example.org"]
    # A program behind the proxy comes with its own token.
    answer = behind.raw(http("GET", "/users/role", SECRET, EMAIL, bearer(behind.move_in("bob"))))
    assert b'"name":"bob"' in answer


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ((EMAIL,), 401),
        ((EMAIL, "X-Sky-Proxy-Secret: wrong"), 401),
        ((EMAIL, "X-Sky-Proxy-Secret: "), 401),
        ((SECRET,), 401),
        ((SECRET, "X-Auth-Request-Email: "), 401),
        ((SECRET, "X-Auth-Request-Email: a b"), 401),
        ((SECRET, "X-Auth-Request-Email: ../ann"), 401),
        ((SECRET, f"X-Auth-Request-Email: {owner()}"), 401),
        ((SECRET, EMAIL, "X-Auth-Request-Email: root@example.org"), 400),
        ((SECRET, "X-Sky-Proxy-Secret: x", EMAIL), 400),
        ((SECRET, EMAIL, "Origin: https://evil.example"), 403),
        ((SECRET, EMAIL, "Sec-Fetch-Site: cross-site"), 403),
    ],
)
def test_who_only_pretends_to_be_the_proxy(behind: Town, headers: tuple[str, ...], code: int):
    assert status(behind.raw(http("POST", "/launch", *headers, body=LAUNCH))) == code
    assert behind.plane.submissions == 0


def test_the_audit_log_says_where_calls_behind_the_proxy_come_from(behind: Town):
    where = "X-Forwarded-For: 6.6.6.6, 203.0.113.9"
    behind.raw(http("POST", "/launch", SECRET, EMAIL, where, body=LAUNCH))
    behind.raw(http("POST", "/launch", EMAIL, where, body=LAUNCH))
    behind.raw(http("POST", "/launch", SECRET, EMAIL, "X-Forwarded-For: <script>", body=LAUNCH))
    assert [row["address"] for row in behind.audit()] == ["127.0.0.1", "127.0.0.1", "203.0.113.9"]


def test_a_proxy_from_elsewhere_is_nobody(state: Path):
    auth = {"external_proxy": {"enabled": True, "peers": ["10.0.0.0/8", "::1"]}}
    town = Town(state, auth=lambda port: auth)
    try:
        assert status(town.raw(http("GET", "/users/role", EMAIL))) == 401
    finally:
        town.served.stop()


def test_a_service_account_does_not_come_by_the_proxy(behind: Town):
    with behind.as_(behind.owner):
        from sky.sdk import users

        users.create_token("ci")
        users.update_user("sa-ci", role="viewer")
    answer = behind.raw(http("GET", "/users/role", SECRET, "X-Auth-Request-Email: sa-ci"))
    assert status(answer) == 401


def test_a_header_may_be_a_token_that_the_proxy_has_checked(state: Path):
    proxy = {"enabled": True, "header_name": "X-Jwt", "header_format": "jwt", "peers": ["127.0.0.1"]}
    town = Town(state, auth=lambda port: {"external_proxy": {**proxy, "jwt_identity_claim": "email"}})
    try:
        claims = base64.urlsafe_b64encode(b'{"email": "ann@example.org"}').rstrip(b"=").decode()
        assert b"ann@example.org" in town.raw(http("GET", "/users/role", f"X-Jwt: e30.{claims}.x"))
        for wrong in ("x", "a.b.c", "e30.e30.x", "e30.W10.x", "é.é.é"):
            assert status(town.raw(http("GET", "/users/role", f"X-Jwt: {wrong}"))) in (400, 401)
    finally:
        town.served.stop()


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        ({"enabled": True}, "peers"),
        ({"enabled": True, "peers": ["everybody"]}, "peers"),
        ({"enabled": True, "peers": ["127.0.0.1"], "secret_file": "/nowhere"}, "no file"),
    ],
)
def test_a_proxy_is_not_believed_by_halves(proxy: dict[str, object], says: str):
    with pytest.raises(InvalidSkyPilotConfigError, match=says):
        from_config({"external_proxy": proxy})


def test_the_file_of_logins_is_read(tmp_path: Path):
    assert read_authentication(tmp_path).proxy is None
    (tmp_path / ".sky").mkdir()
    path = tmp_path / ".sky" / ".server.yaml"
    path.write_text(
        "auth:\n  public_url: https://sky.example.org\n  hosts: [Other.example.org]\n"
        "  external_proxy: {enabled: true, peers: [10.1.2.3]}\n"
    )
    read = read_authentication(tmp_path)
    assert read.hosts == {"sky.example.org", "other.example.org"}
    assert read.proxy is not None
    assert read.proxy.header == "X-Auth-Request-Email"
    path.write_text("auth:\n  external_proxi: {}\n")
    with pytest.raises(InvalidSkyPilotConfigError, match=r"\.server\.yaml:2:3.*external_proxy"):
        read_authentication(tmp_path)


# --- whatever else ---------------------------------------------------------------------------------------------------

HEADER_NAMES = (
    "authorization", "cookie", "host", "origin", "sec-fetch-site", "x-auth-request-email", "x-sky-proxy-secret",
    "x-sky-page", "x-skypilot-api-version", "x-skypilot-user", "content-type",
)  # fmt: skip
PIECES = (
    "Bearer ",
    "sky_",
    "0" * 16,
    "_",
    "A" * 43,
    "sky_session=",
    "127.0.0.1",
    "[",
    "]",
    ":",
    "@",
    "é",
    "\x80",
    ";",
    '"',
)


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(HEADER_NAMES),
            st.one_of(st.lists(st.sampled_from(PIECES)).map("".join), st.text(max_size=40)),
        ),
        max_size=8,
    ),
    method=st.sampled_from(["GET", "POST", "PUT"]),
    right=st.sampled_from([None, *Right]),
    local=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_no_headers_make_the_gate_stumble(gate: Gatekeeper, headers, method, right, local):
    """It lets somebody in or says no; and nobody is let in by such headers over TCP but where anybody is."""
    raw = [(name.encode(), value.encode("utf-8", "surrogatepass")) for name, value in headers]
    call = asgi.Call(method, "/x", b"", raw, None, local, address="127.0.0.1")  # type: ignore[arg-type]
    route = asgi.Route(Operation(method, "/x", "", right=right), None)  # type: ignore[arg-type]
    try:
        caller = asyncio.run(gate(call, route))
    except (SkyError, ValueError) as refused:
        assert told(refused)[0] < 500
    else:
        assert local or (right is Right.PUBLIC and caller == asgi.NOBODY)


ODD = (
    None,
    True,
    -1,
    10**400,
    1.5,
    "",
    "x" * 5000,
    "\ud800",
    "\x00",
    "../..",
    "' OR 1=1 --",
    [],
    [[]],
    [None],
    {},
    {"a": {}},
)


@pytest.mark.parametrize("who", ["owner", "nobody"])
def test_no_call_stumbles_over_odd_arguments(town: Town, who: str):
    """Every call of the server, each of its arguments in turn with whatever it does not expect: never a 500."""
    token = town.owner if who == "owner" else None
    document = town.call(None, "GET", "/openapi.json")[1]
    schemas = document["components"]["schemas"]
    stumbled = []
    for path, methods in document["paths"].items():
        if path in ("/api/shutdown", "/api/server_logs", "/api/stream"):
            continue
        for method, told_of in methods.items():
            where = path.replace("{hash}", "0" * 64)
            bodies: list[object] = [b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff", b'{"a": NaN}', b"[" * 9000, b"{}"]
            content = told_of.get("requestBody", {}).get("content", {}).get("application/json", {})
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            fields = schemas.get(name, {}).get("properties", {})
            bodies += [{field: odd} for field in fields for odd in ODD]
            bodies += [{field: odd for field in fields} for odd in ODD]
            queries = [
                "",
                *(
                    f"?{each['name']}={odd}"
                    for each in told_of.get("parameters", ())
                    for odd in ("", "-1", "x", "%00", "9" * 30)
                ),
            ]
            for query in queries if method == "get" else [""]:
                for body in bodies if method != "get" else [b""]:
                    data = body if isinstance(body, bytes) else json.dumps(body).encode()
                    code, told_back, _ = town.exchange(token, method.upper(), where + query, data)
                    if code in (500, 501):
                        stumbled.append((method, where + query, data[:100], told_back))
    assert stumbled == []


@pytest.fixture(scope="module")
def gate() -> Gatekeeper:
    ways = from_config({"external_proxy": {"enabled": True, "peers": ["10.0.0.1"]}})
    people = People(SqliteStore().users, SystemClock(), "root", lambda name: {})
    return Gatekeeper(people, "t" * 40, {"127.0.0.1"}, ways)
