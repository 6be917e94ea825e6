"""Calls by which people log in: a browser by the OpenID provider, a command line by a browser that confirms it.

The command line shows a code and a page of this server; whoever opens the page (logged in by the provider, or behind a
trusted proxy) sees the same code and confirms. So the command line needs no browser of its own, and every provider
will do.
"""

import html
import secrets
from dataclasses import replace

from sky.core.errors import (
    ApiServerAuthenticationError,
    ClientError,
    NotSupportedError,
    ServerTemporarilyUnavailableError,
)
from sky.core.model.users import Token, TokenKind, Via
from sky.core.policy.rights import Right
from sky.server import tokens
from sky.server.api import Api
from sky.server.asgi import Call, Reply, Route
from sky.server.identity import cookie, session_cookie
from sky.server.oidc import Provider, safe_next
from sky.wire.codec import decode, encode
from sky.wire.openapi import Operation
from sky.wire.protocol import HEADER_FORGERY
from sky.wire.users import ConfirmBody, DeviceBody, DeviceOutcome, DeviceRecord, LoginWays

#: Letters of codes that people compare: none that is taken for another, no vowels, so no words.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
#: Logins of command lines that may wait at a time: strangers can begin them.
MOST_WAITING = 200
#: Seconds between two questions of a command line whether it was confirmed.
INTERVAL_S = 2.0
_BEGUN_S = 600


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    calls = _Logins(api)

    def page(path: str, summary: str, *, audited: bool = False) -> Operation:
        return Operation("GET", path, summary, media="text/html", right=Right.PUBLIC, audited=audited)

    return [
        api.plain(
            Operation("GET", "/auth/methods", "How one can log in", answer=LoginWays, right=Right.PUBLIC), calls.ways
        ),
        api.plain(page("/auth/login", "Log in by the OpenID provider"), calls.begin),
        api.plain(page("/auth/callback", "Where the provider sends browsers back", audited=True), calls.finish),
        api.plain(page("/auth/done", "Where a login ends"), calls.done),
        api.plain(page("/auth/device", "Where a command line's login is confirmed"), calls.show),
        api.plain(
            Operation(
                "POST",
                "/auth/device",
                "Begin the login of a command line",
                answer=DeviceRecord,
                right=Right.PUBLIC,
                audited=True,
            ),
            calls.ask,
        ),
        api.plain(
            Operation(
                "POST",
                "/auth/device/confirm",
                "Confirm the login of a command line",
                body=ConfirmBody,
                right=Right.READ,
                audited=True,
            ),
            calls.confirm,
        ),
        api.plain(
            Operation(
                "POST",
                "/auth/device/token",
                "Fetch the token of a login that was confirmed",
                body=DeviceBody,
                answer=DeviceOutcome,
                right=Right.PUBLIC,
            ),
            calls.fetch,
        ),
        api.plain(
            Operation("POST", "/auth/logout", "End this browser's session", right=Right.READ, audited=True), calls.leave
        ),
    ]


class _Logins:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._ways = api.ways
        self._people = api.people
        self._users = api.people.users
        url = api.ways.public_url
        self._secure = bool(url and url.startswith("https://"))
        self._provider = (
            None
            if api.ways.oidc is None or url is None
            else Provider(api.ways.oidc, f"{url}/auth/callback", api.plane.clock)
        )

    async def ways(self, call: Call) -> Reply:
        ways = self._ways
        told = LoginWays(token=self._api.token_on, oidc=ways.oidc is not None, proxy=ways.proxy is not None)
        return Reply(encode(told))

    # --- browsers ------------------------------------------------------------------------------------------------

    async def begin(self, call: Call) -> Reply:
        begun = await self._oidc().begin((call.query().get("next") or [""])[-1])
        return _to(begun.url, self._cookie(self._begun_cookie(), begun.kept, _BEGUN_S))

    async def finish(self, call: Call) -> Reply:
        query = {key: values[-1] for key, values in call.query().items()}
        found = await self._oidc().finish(query, cookie(call, self._begun_cookie()))
        user = await self._people.came(found.name, "oidc", found.role)
        # The line of the audit log that ends this call says who came.
        call.caller = replace(call.caller, user=user.name, role=user.role, via=Via.SESSION)
        text, session = tokens.mint(
            TokenKind.SESSION,
            user.name,
            "browser",
            self._people.now(),
            made_by="oidc",
            lifetime_s=tokens.SESSION_S,
            renew_until=self._people.now() + tokens.SESSION_S,
        )
        await self._users.add_token(session)
        await self._users.sweep(self._people.now() - 30 * tokens.DAY_S)
        return _to(
            found.next,
            self._cookie(session_cookie(self._ways), text, int(tokens.SESSION_S)),
            self._cookie(self._begun_cookie(), "", 0),
        )

    async def done(self, call: Call) -> Reply:
        who = call.user or "nobody: the login did not hold"
        return _page(f"<p>Logged in as <b>{html.escape(who)}</b>. You can close this page.</p>")

    async def leave(self, call: Call) -> Reply:
        if call.caller.token is not None and call.caller.via is Via.SESSION:
            session = await self._users.token(call.caller.token)
            if session is not None:
                await self._users.change_token(replace(session, revoked_at=self._people.now()))
        return Reply(headers=[self._cookie(session_cookie(self._ways), "", 0)])

    # --- command lines -------------------------------------------------------------------------------------------

    async def ask(self, call: Call) -> Reply:
        if self._ways.oidc is None and self._ways.proxy is None:
            raise NotSupportedError(
                "This server has no logins; ask its admin for a token and give it: sky api login -e URL --token TOKEN"
            )
        now = self._people.now()
        await self._users.sweep(now - 30 * tokens.DAY_S)
        waiting = [each for each in await self._users.tokens("") if each.good(now)]
        if len(waiting) >= MOST_WAITING:
            raise ServerTemporarilyUnavailableError("Too many logins wait to be confirmed; try again in some minutes.")
        code = "".join(secrets.choice(_LETTERS) for _ in range(8))
        code = f"{code[:4]}-{code[4:]}"
        text, device = tokens.mint(TokenKind.DEVICE, "", code, now, made_by=call.address, lifetime_s=tokens.DEVICE_S)
        await self._users.add_token(device)
        page = f"{self._base(call)}/auth/device"
        told = DeviceRecord(
            device_code=text,
            user_code=code,
            verification_uri=page,
            verification_uri_complete=f"{page}?user_code={code}",
            expires_in=tokens.DEVICE_S,
            interval=INTERVAL_S,
        )
        return Reply(encode(told))

    async def show(self, call: Call) -> Reply:
        """The page on which a login is confirmed; whoever is not logged in yet is sent to log in first."""
        code = (call.query().get("user_code") or [""])[-1][:20].upper()
        if not call.user:
            back = safe_next(f"/auth/device?user_code={code}")
            return _to(f"/auth/login?next={back.replace('?', '%3F').replace('=', '%3D')}")
        device = await self._waiting(code)
        if device is None:
            return _page("<p>No login with this code waits here any more. Begin again: <code>sky api login</code></p>")
        where, who = html.escape(device.made_by or "an unknown address"), html.escape(call.user)
        return _page(
            f"<p>A command line at <b>{where}</b> wants to work as <b>{who}</b>. Confirm only if you began this "
            f'yourself just now, and it shows this code:</p><p class="code">{html.escape(device.name)}</p>'
            '<button id="yes">Confirm</button><p id="said"></p>',
            _SCRIPT.format(header=HEADER_FORGERY, mark=self._mark(call), code=device.name),
        )

    async def confirm(self, call: Call) -> Reply:
        if call.caller.via not in (Via.SESSION, Via.PROXY):
            raise ClientError("A login is confirmed by somebody in a browser.")
        body = decode(ConfirmBody, await call.body())
        device = await self._waiting(body.user_code.upper())
        if device is None:
            raise ValueError("No login with this code waits here any more.")
        await self._users.change_token(replace(device, user=call.user))
        return Reply()

    async def fetch(self, call: Call) -> Reply:
        body = decode(DeviceBody, await call.body())
        parts = tokens.parts(body.device_code)
        device = await self._users.token(parts[0]) if parts else None
        now = self._people.now()
        if (
            parts is None
            or device is None
            or device.kind is not TokenKind.DEVICE
            or not tokens.opens(device, parts[1])
            or not device.good(now)
        ):
            raise _unknown_login()
        if not device.user:
            return Reply(encode(DeviceOutcome(status="pending")))
        user = await self._people.active(device.user)
        text, token = tokens.mint(
            TokenKind.LOGIN,
            user.name,
            "sky api login",
            now,
            made_by=user.name,
            lifetime_s=tokens.LOGIN_S,
            renew_until=now + tokens.LOGIN_UNTIL_S,
        )
        # It is fetched once: the code opens nothing from now on, and nothing for whoever asks another server for it.
        if not await self._users.change_token(replace(device, revoked_at=now)):
            raise _unknown_login()
        await self._users.add_token(token)
        told = DeviceOutcome(status="done", token=text, user_name=user.name, expires_at=token.expires_at)
        return Reply(encode(told))

    # --- parts ---------------------------------------------------------------------------------------------------

    def _oidc(self) -> Provider:
        if self._provider is None:
            raise NotSupportedError("This server has no OpenID provider configured (auth.oidc in ~/.sky/.server.yaml).")
        return self._provider

    async def _waiting(self, code: str) -> Token | None:
        now = self._people.now()
        found = [each for each in await self._users.tokens("") if each.good(now) and each.name == code]
        return found[0] if found else None

    def _base(self, call: Call) -> str:
        return self._ways.public_url or f"http://{(call.header('host') or 'localhost')[:200]}"

    def _mark(self, call: Call) -> str:
        session = tokens.parts(cookie(call, session_cookie(self._ways)) or "")
        return tokens.forgery_mark(session[1]) if session else ""

    def _begun_cookie(self) -> str:
        return "__Host-sky_login" if self._secure else "sky_login"

    def _cookie(self, name: str, value: str, seconds: int) -> tuple[bytes, bytes]:
        # Lax, and not strict: the provider sends the browser back from another site.
        secure = "; Secure" if self._secure else ""
        told = f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
        return (b"set-cookie", told.encode())


def _unknown_login() -> ApiServerAuthenticationError:
    return ApiServerAuthenticationError("This login is unknown or took too long; begin again: sky api login")


def _to(url: str, *cookies: tuple[bytes, bytes]) -> Reply:
    plain = [(b"content-type", b"text/plain"), (b"location", url.encode()), (b"cache-control", b"no-store")]
    return Reply(b"", 302, [*plain, *cookies])


_STYLE = "body{font:16px sans-serif;max-width:34em;margin:4em auto}.code{font:bold 2em monospace}"
_SCRIPT = """
document.getElementById("yes").onclick = async () => {{
  const answer = await fetch("/auth/device/confirm", {{
    method: "POST", headers: {{"{header}": "{mark}"}}, body: JSON.stringify({{user_code: "{code}"}}),
  }});
  document.getElementById("said").textContent =
    answer.ok ? "Done. You can close this page." : (await answer.json()).error.message;
}};
"""


def _page(body: str, script: str = "") -> Reply:
    """A page that runs no script but its own and is shown in no frame."""
    once = secrets.token_urlsafe(16)
    policy = f"default-src 'none'; style-src 'nonce-{once}'; script-src 'nonce-{once}'; connect-src 'self'"
    policy += "; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    text = (
        f'<!doctype html><meta charset="utf-8"><title>Altostratus</title><style nonce="{once}">{_STYLE}</style>{body}'
        + (f'<script nonce="{once}">{script}</script>' if script else "")
    )
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy.encode()),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-store"),
    ]
    return Reply(text.encode(), 200, headers)
