"""Who is calling: the Unix socket is the owner's, TCP needs the token. Called by the ASGI layer for every call."""

import hmac
import os
import pwd
import re
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

from sky.core.errors import ApiServerAuthenticationError, APIVersionMismatchError, ClientError
from sky.server.asgi import Call, Route
from sky.server.failures import NoSuchRoute
from sky.version import API_VERSION, __version__
from sky.wire.protocol import HEADER_API_VERSION, HEADER_USER, HEADER_VERSION, MIN_API_VERSION

_USER = re.compile(r"[A-Za-z0-9._@+-]{1,128}")


def owner() -> str:
    """The login name of this process's user; its number where it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def read_token(path: Path, *, make: bool) -> str:
    """The token in a file readable by its owner only; made if absent and `make`.

    Raises ValueError for a file that others may read, that is empty, or that is absent and may not be made.
    """
    if not path.exists():
        if not make:
            raise ValueError(f"The token file {path} does not exist.")
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as out:
            out.write(secrets.token_urlsafe(32) + "\n")
    if path.stat().st_mode & 0o077:
        raise ValueError(f"The token file {path} can be read by others; run: chmod 600 {path}")
    token = path.read_text().strip()
    if len(token) < 16:
        raise ValueError(f"The token in {path} is shorter than 16 characters.")
    return token


def gatekeeper(token: str | None, hosts: Collection[str] | None) -> Callable[[Call, Route], str]:
    """A check of every call that returns the user's name or raises.

    `token` opens the TCP side; `hosts` are the names by which a TCP client may address it (None: any), which keeps web
    pages from reaching a loopback port under a name of their own.
    """
    me = owner()
    secret = token.encode() if token else None

    def gate(call: Call, route: Route) -> str:
        _check_version(call)
        if call.local:
            claimed = call.header(HEADER_USER)
            if claimed is None:
                return me
            if not _USER.fullmatch(claimed):
                raise ClientError(f"The header {HEADER_USER} is not a user name: {claimed[:80]!r}")
            return claimed
        if route.owner_only:
            raise NoSuchRoute("This call is made over the server's Unix socket only.")
        if hosts is not None and _host(call) not in hosts:
            raise ClientError(f"This server does not go by the name {_host(call)[:80]!r} (header Host).")
        if route.operation.public:
            return me
        sent = call.header("authorization") or ""
        kind, _, given = sent.partition(" ")
        given_bytes = given.strip().encode("latin-1", "replace")
        if secret is None or kind.lower() != "bearer" or not hmac.compare_digest(given_bytes, secret):
            raise ApiServerAuthenticationError(
                "The API server asks for its bearer token: set SKYPILOT_SERVICE_ACCOUNT_TOKEN."
                if not sent
                else "The API server refused the token."
            )
        return me

    return gate


def _host(call: Call) -> str:
    name = (call.header("host") or "").strip().lower()
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
