"""Who is calling, and whether they may make this call at all. Called by the ASGI layer for every call.

The Unix socket is the owner's. Over TCP somebody comes with a bearer token, with a browser's session, or through a
proxy that vouches for them; nobody else is let in. What a call needs is said by its operation; one that says nothing is
refused.
"""

import base64
import binascii
import hmac
import ipaddress
import json
import os
import pwd
import secrets
from collections.abc import Collection
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

from sky.core.errors import (
    ApiServerAuthenticationError,
    APIVersionMismatchError,
    ClientError,
    PermissionDeniedError,
)
from sky.core.model.users import Caller, Role, Token, TokenKind, User, Via, check_user_name
from sky.core.policy.rights import Right, narrowed, permits
from sky.server import tokens
from sky.server.asgi import NOBODY, Call, Route
from sky.server.authentication import Authentication, Proxy
from sky.server.failures import NoSuchRoute
from sky.server.people import People, active
from sky.version import API_VERSION, __version__
from sky.wire.protocol import (
    COOKIE_SESSION,
    HEADER_API_VERSION,
    HEADER_FORGERY,
    HEADER_USER,
    HEADER_VERSION,
    MIN_API_VERSION,
)

#: Methods that change nothing, so that it does no harm if a page of somebody else's has a browser make them.
_HARMLESS = frozenset(["GET", "HEAD"])


def owner() -> str:
    """The login name of this process's user; its number where it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def read_token(path: Path, *, make: bool) -> str:
    """The token in a file readable by its owner only; made if absent and `make`, by one of those who come at once.

    Raises ValueError for a file that others may read, that is empty, or that is absent and may not be made.
    """
    if not path.exists():
        if not make:
            raise ValueError(f"The token file {path} does not exist.")
        _make_token(path)
    if path.stat().st_mode & 0o077:
        raise ValueError(f"The token file {path} can be read by others; run: chmod 600 {path}")
    token = path.read_text().strip()
    if len(token) < 16:
        raise ValueError(f"The token in {path} is shorter than 16 characters.")
    return token


def _make_token(path: Path) -> None:
    """Written aside and linked: whoever finds the file finds it whole, and of several who make one, one is taken."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as out:
            out.write(secrets.token_urlsafe(32) + "\n")
            out.flush()
            os.fsync(out.fileno())
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink()


class Gatekeeper:
    """A check of every call that returns its caller or raises.

    `token` is the owner's own, from a file; `hosts` are the names by which a TCP client may address the server (None:
    any), which keeps web pages from reaching a loopback port under a name of their own.
    """

    def __init__(self, people: People, token: str | None, hosts: Collection[str] | None, ways: Authentication) -> None:
        self._people = people
        self._secret = token.encode() if token else None
        self._hosts = hosts
        self._ways = ways

    async def __call__(self, call: Call, route: Route) -> Caller:
        _check_version(call)
        right = route.operation.right
        if call.local:
            return self._owner(call)
        if right is Right.OWNER:
            raise NoSuchRoute("This call is made over the server's Unix socket only.")
        if self._hosts is not None and _host(call) not in self._hosts:
            raise ClientError(f"This server does not go by the name {_host(call)[:80]!r} (header Host).")
        if right is Right.PUBLIC:
            return await self.guest(call)
        caller = await self._known(call)
        if not permits(caller.role, right):
            raise PermissionDeniedError(
                f"{caller.user} is {caller.role.value} here and may not call {route.operation.path}: "
                f"that takes the right '{right.value if right else 'none has'}'."
            )
        return caller

    async def guest(self, call: Call) -> Caller:
        """Whoever makes a call that anybody may make; nobody, if they do not say who they are or are not believed."""
        try:
            return await self._known(call)
        except (ApiServerAuthenticationError, PermissionDeniedError):
            return NOBODY

    def _owner(self, call: Call) -> Caller:
        claimed = call.header(HEADER_USER)
        if claimed is None:
            return Caller(self._people.owner, Role.ADMIN, Via.SOCKET)
        # Whoever can open the socket owns what is behind it, and may say in whose name they act.
        try:
            return Caller(check_user_name(claimed), Role.ADMIN, Via.SOCKET)
        except ValueError:
            raise ClientError(f"The header {HEADER_USER} is not a user name: {claimed[:80]!r}") from None

    async def _known(self, call: Call) -> Caller:
        sent = call.only("authorization")
        proxy = self._ways.proxy if self._ways.proxy is not None and _from(self._ways.proxy, call) else None
        if proxy is not None:
            # What it says of where a call comes from is for the audit log; nothing is decided by it.
            call.address = _behind(call)
        if sent:
            return await self._by_bearer(call, sent)
        if proxy is not None:
            return await self._by_proxy(call, proxy)
        session = cookie(call, session_cookie(self._ways))
        if session is not None:
            return await self._by_session(call, session)
        raise ApiServerAuthenticationError(
            "The API server asks who you are: `sky api login -e URL`, or set SKYPILOT_SERVICE_ACCOUNT_TOKEN to its "
            "bearer token."
        )

    async def _by_bearer(self, call: Call, sent: str) -> Caller:
        kind, _, given = sent.partition(" ")
        given = given.strip()
        if kind.lower() == "bearer":
            if self._secret is not None and hmac.compare_digest(given.encode("latin-1", "replace"), self._secret):
                return Caller(self._people.owner, Role.ADMIN, Via.FILE_TOKEN, address=call.address)
            found = await self._behind(given, TokenKind.ACCOUNT, TokenKind.LOGIN)
            if found is not None:
                return await self._as(call, *found, Via.TOKEN)
        raise ApiServerAuthenticationError(
            "The API server refused the token: it is unknown, has expired or was revoked. `sky api login` makes a new "
            "one."
        )

    async def _by_session(self, call: Call, session: str) -> Caller:
        behind = await self._behind(session, TokenKind.SESSION)
        if behind is None:
            raise ApiServerAuthenticationError("The session of this browser has ended; log in again.")
        found = tokens.parts(session)
        assert found is not None
        if call.method not in _HARMLESS:
            _check_origin(call)
            mark = call.header(HEADER_FORGERY) or ""
            if not hmac.compare_digest(mark.encode("latin-1", "replace"), tokens.forgery_mark(found[1]).encode()):
                raise PermissionDeniedError(
                    f"A change by a browser needs the header {HEADER_FORGERY}, which only a page of this server knows."
                )
        return await self._as(call, *behind, Via.SESSION)

    async def _by_proxy(self, call: Call, proxy: Proxy) -> Caller:
        name = call.only(proxy.header)
        if not name:
            raise ApiServerAuthenticationError(f"The proxy did not say who calls (header {proxy.header}).")
        if call.method not in _HARMLESS:
            # The proxy goes by a cookie, which a browser sends for pages of others as well.
            _check_origin(call)
        who = name if proxy.claim is None else _claim(name, proxy.claim)
        user = await self._people.came(who, "proxy")
        return Caller(user.name, user.role, Via.PROXY, address=call.address)

    async def _behind(self, text: str, *kinds: TokenKind) -> tuple[Token, User | None] | None:
        """The token that a text is, and whose; None for one that opens nothing."""
        parts = tokens.parts(text)
        found = None if parts is None else await self._people.behind(parts[0])
        if parts is None or found is None or found[0].kind not in kinds or not tokens.opens(found[0], parts[1]):
            return None
        return found if found[0].good(self._people.now()) else None

    async def _as(self, call: Call, token: Token, known: User | None, via: Via) -> Caller:
        user = active(known)
        await self._people.noted(token)
        return narrowed(Caller(user.name, user.role, via, address=call.address), user, token)


def session_cookie(ways: Authentication) -> str:
    """The name of the cookie of a browser's session. With the prefix no other host can have set it."""
    secure = ways.public_url is not None and ways.public_url.startswith("https://")
    return f"__Host-{COOKIE_SESSION}" if secure else COOKIE_SESSION


def cookie(call: Call, name: str) -> str | None:
    """A cookie's value."""
    try:
        found = SimpleCookie(call.header("cookie") or "").get(name)
    except CookieError:
        return None
    return None if found is None else found.value


def _from(proxy: Proxy, call: Call) -> bool:
    """Whether a call comes from the proxy: by its address and, where one was agreed on, its secret."""
    try:
        address = ipaddress.ip_address(call.address.partition("%")[0])
    except ValueError:
        return False
    if not any(address in network for network in proxy.peers):
        return False
    if proxy.secret is None:
        return True
    shown = (call.only(proxy.secret_header) or "").encode("latin-1", "replace")
    return hmac.compare_digest(shown, proxy.secret.encode())


def _behind(call: Call) -> str:
    """Where a call came from, as the proxy that passed it on says; else the proxy's own address."""
    said = (call.header("x-forwarded-for") or "").rpartition(",")[2].strip()
    try:
        return str(ipaddress.ip_address(said))
    except ValueError:
        return call.address


def _claim(text: str, claim: str) -> str:
    """A claim of a JWT that the proxy has checked. Raises ApiServerAuthenticationError."""
    try:
        payload = text.split(".")[1]
        told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(told[claim])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        raise ApiServerAuthenticationError(f"The proxy's header is not a JWT with the claim {claim!r}.") from None


def _check_origin(call: Call) -> None:
    """Refuse a change that a page of another site has a browser make. Raises PermissionDeniedError."""
    origin, site = call.header("origin"), call.header("sec-fetch-site")
    if origin is not None and urlsplit(origin).netloc.lower() != (call.header("host") or "").strip().lower():
        raise PermissionDeniedError(f"A page of {origin[:80]!r} may not make changes here.")
    if site is not None and site not in ("same-origin", "none"):
        raise PermissionDeniedError("A page of another site may not make changes here.")


def _host(call: Call) -> str:
    name = (call.only("host") or "").strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def _check_version(call: Call) -> None:
    said = call.header(HEADER_API_VERSION)
    if said is None:
        return
    if not said.isdecimal() or int(said) < MIN_API_VERSION:
        theirs = call.header(HEADER_VERSION) or "of unknown version"
        raise APIVersionMismatchError(
            f"The client ({theirs[:40]}, interface {said[:10]}) is too old for this server ({__version__}, interface "
            f"{API_VERSION}, at least {MIN_API_VERSION}). Upgrade the client: pip install -U altostratus"
        )
