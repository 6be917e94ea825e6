"""The world outside as price sources see it: `core.ports.Web` over HTTPS, bounded in time, size and redirects.

Made by whoever refreshes the catalog, one for each source that is asked; the sources in `providers/*/prices.py` are
handed it. Only the standard library: a refresh must work right after install. Plain HTTP is for loopback alone.
"""

import base64
import codecs
import contextlib
import http.client
import ipaddress
import json
import math
import re
import socket
import ssl
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Self
from urllib.parse import SplitResult, parse_qsl, unquote, urljoin, urlsplit

from sky.core.errors import CredentialsRejected, ProviderDown, ProviderFailure, RequestInvalid, Throttled
from sky.core.model.catalog import Source
from sky.core.ports import Reply, Web
from sky.version import __version__

_PIECE = 64 * 2**10
_REDIRECTS = (301, 302, 303, 307, 308)
_LONGEST_LINE = 2**20
#: Longer pauses than this are not believed, in seconds.
_LONGEST_PAUSE_S = 3600.0
_SECRET_LIKE = re.compile(r"[A-Za-z0-9_.~+/=-]{6,}")


class PublicWeb(Web):
    """Asks public and keyed endpoints. See `core.ports.Web`.

    `timeout_s` is the longest that one document may take from the question to its last byte, `stall_s` the longest
    silence within it, both in seconds. `patience_s` is how long one document may wait in all for a server that asks for
    fewer calls before that is a failure; lists of hundreds of pages need some. `context` replaces the system's trust
    (tests bring their own authority).
    """

    def __init__(
        self,
        timeout_s: float = 600.0,
        stall_s: float = 30.0,
        *,
        patience_s: float = 0.0,
        max_redirects: int = 5,
        context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._patience_s = patience_s
        self._sleep = sleep
        self._timeout_s = timeout_s
        self._stall_s = stall_s
        self._max_redirects = max_redirects
        self._context = context
        self._clock = clock

    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        known: Source | None = None,
        at_most: int = 64 * 2**20,
    ) -> "WebReply":
        """GET, or POST where there is a `body`; the reply is to be closed by leaving its context.

        Raises ProviderDown, Throttled, CredentialsRejected or RequestInvalid with the URL (without its query, where
        keys travel) and what the server said.
        """
        patience = self._patience_s
        while True:
            try:
                return self._asked(url, dict(headers or {}), body, known, at_most)
            except Throttled as throttled:
                # At least a second: a server that says none while it refuses would be asked in a tight loop.
                pause = max(throttled.retry_after, 1.0)
                if pause > patience:
                    raise
                patience -= pause
                self._sleep(pause)

    def _asked(
        self, url: str, headers: dict[str, str], body: bytes | None, known: Source | None, at_most: int
    ) -> "WebReply":
        exchange = _Exchange(url, headers, body, self._clock() + self._timeout_s, self._clock)
        if known is not None and body is None:
            exchange.condition(known)
        for _ in range(self._max_redirects + 1):
            reply = self._once(exchange, at_most)
            if reply.status not in _REDIRECTS:
                return _judged(reply, exchange)
            with reply:
                exchange.redirect(reply.header("Location"))
        raise ProviderDown(f"{exchange.shown}: more than {self._max_redirects} redirects; the endpoint may have moved")

    def _once(self, exchange: "_Exchange", at_most: int) -> "WebReply":
        connection = self._connection(exchange)
        guard = _Guard(exchange, self._stall_s)
        try:
            with guard.words():
                connection.connect()
                guard.watch(connection)
                connection.request(
                    "GET" if exchange.body is None else "POST",
                    exchange.target,
                    body=exchange.body,
                    headers=exchange.headers,
                )
                return WebReply(connection, connection.getresponse(), guard, at_most)
        except BaseException:
            guard.stop()
            connection.close()
            raise

    def _connection(self, exchange: "_Exchange") -> http.client.HTTPConnection:
        place = exchange.place
        host, wait = place.hostname or "", min(self._stall_s, max(exchange.left(), 0.001))
        if place.scheme == "http":
            return http.client.HTTPConnection(host, place.port or 80, timeout=wait)
        # Reading the system's authorities takes tens of milliseconds: once, not for each of some hundred pages.
        context = self._context = self._context or ssl.create_default_context()
        proxy = None if _is_loopback(host) or urllib.request.proxy_bypass(host) else _proxy()
        if proxy is None:
            return http.client.HTTPSConnection(host, place.port or 443, timeout=wait, context=context)
        through = http.client.HTTPSConnection(
            proxy.hostname or "", proxy.port or (443 if proxy.scheme == "https" else 80), timeout=wait, context=context
        )
        through.set_tunnel(host, place.port or 443, headers=_proxy_headers(proxy))
        return through


class _Exchange:
    """One question with its redirects: where it goes now, what travels with it, and until when."""

    def __init__(
        self, url: str, headers: dict[str, str], body: bytes | None, deadline: float, clock: Callable[[], float]
    ) -> None:
        self.body = body
        self._own = headers
        self._deadline = deadline
        self._clock = clock
        self._conditions: dict[str, str] = {}
        self._secrets = _secrets_of(url, headers, body)
        self.place = self._checked(url)

    @property
    def headers(self) -> dict[str, str]:
        fixed = {"User-Agent": f"altostratus/{__version__}", "Accept-Encoding": "gzip", "Connection": "close"}
        return {"Accept": "*/*", **fixed, **self._conditions, **self._own}

    @property
    def target(self) -> str:
        path = self.place.path or "/"
        return f"{path}?{self.place.query}" if self.place.query else path

    @property
    def shown(self) -> str:
        """The URL as it may be printed: neither user, nor query."""
        return shown(self.place.geturl())

    def condition(self, known: Source) -> None:
        """Ask only for what differs from the known document."""
        if known.etag:
            self._conditions["If-None-Match"] = _header_value(known.etag)
        if known.last_modified:
            self._conditions["If-Modified-Since"] = _header_value(known.last_modified)

    def left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._deadline - self._clock()

    def redirect(self, location: str | None) -> None:
        """Go where the server says. A key never follows to another origin, a body only where it is meant to."""
        if not location:
            raise ProviderDown(f"{self.shown}: a redirect that does not say where to")
        if self.body is not None:
            raise ProviderDown(f"{self.shown}: redirects a POST, which is not followed")
        try:
            there = urljoin(self.place.geturl(), location)
        except ValueError:
            raise RequestInvalid(f"{self.shown}: a redirect to what is not a URL") from None
        before, after = self.place, self._checked(there)
        if before.scheme == "https" and after.scheme != "https":
            raise RequestInvalid(f"{self.shown}: a redirect from https to http, which is not followed")
        if (before.scheme, before.hostname, before.port) != (after.scheme, after.hostname, after.port):
            self._own = {}
        self.place = after

    def clean(self, said: str) -> str:
        """The server's words without what was secret in the question."""
        for secret in self._secrets:
            said = said.replace(secret, "…")
        return said

    def _checked(self, url: str) -> SplitResult:
        try:
            place = urlsplit(url)
            host, _ = place.hostname, place.port
        except ValueError:
            raise RequestInvalid("not a URL that can be asked: its host or port cannot be read") from None
        if place.scheme not in ("https", "http") or not host or any(ord(char) <= 32 for char in url):
            raise RequestInvalid(f"{shown(url)}: not a URL that can be asked; allowed: https://host/path")
        if place.scheme == "http" and not _is_loopback(host):
            raise RequestInvalid(f"{shown(url)}: prices are asked over https only; http is for 127.0.0.1")
        return place


class _Guard:
    """Ends an exchange at its deadline, whatever it is doing, and turns low-level failures into words."""

    def __init__(self, exchange: _Exchange, stall_s: float) -> None:
        self.exchange = exchange
        self._stall_s = stall_s
        self._timer: threading.Timer | None = None
        self._late = False

    def watch(self, connection: http.client.HTTPConnection) -> None:
        """Cut the connection at the deadline: a server that drips a byte now and then never trips a read's timeout."""
        connection.sock.settimeout(self._stall_s)
        self._timer = threading.Timer(max(self.exchange.left(), 0.0), self._cut, [connection.sock])
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @contextlib.contextmanager
    def words(self) -> Iterator[None]:
        """Within, failures of the network come out as ProviderDown with the URL."""
        try:
            yield
        except (OSError, http.client.HTTPException, zlib.error, ValueError) as error:
            raise ProviderDown(f"{self.exchange.shown}: {self._why(error)}") from None
        if self._late:
            raise ProviderDown(f"{self.exchange.shown}: {self._why(TimeoutError())}")

    def _why(self, error: Exception) -> str:
        if self._late or self.exchange.left() <= 0:
            return "the document did not arrive in the time that one may take"
        if isinstance(error, TimeoutError):
            return f"nothing arrived for {self._stall_s:g} seconds"
        if isinstance(error, http.client.IncompleteRead):
            return "the connection ended in the middle of the document"
        return self.exchange.clean(f"{type(error).__name__}: {error}"[:300])

    def _cut(self, sock: socket.socket) -> None:
        self._late = True
        # The plain shutdown, past the TLS one, which is not made for use beside a thread that reads.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class WebReply(Reply):
    """An answer that is read as a stream. See `core.ports.Reply`."""

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        guard: _Guard,
        at_most: int,
    ) -> None:
        self._connection = connection
        self._response = response
        self._guard = guard
        self._at_most = at_most

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def unchanged(self) -> bool:
        return self.status == http.HTTPStatus.NOT_MODIFIED

    @property
    def etag(self) -> str | None:
        return self.header("ETag")

    @property
    def last_modified(self) -> str | None:
        return self.header("Last-Modified")

    def header(self, name: str) -> str | None:
        """A header of the answer; None where it is absent or absurdly long."""
        found = self._response.getheader(name)
        return found if found and len(found) <= 2000 else None

    def lines(self) -> Iterator[str]:
        """Lines of text without their ends. Raises ProviderDown for a page in place of data, or an endless line."""
        if "html" in (self.header("Content-Type") or "").lower():
            raise ProviderDown(f"{self._shown}: answered with an HTML page where data was expected")
        decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        rest = ""
        for piece in self.pieces():
            *whole, rest = (rest + decode(piece)).split("\n")
            for line in whole:
                yield line.removesuffix("\r")
            if len(rest) > _LONGEST_LINE:
                raise ProviderDown(f"{self._shown}: a line of more than {_LONGEST_LINE} characters")
        rest += decode(b"", True)
        if rest:
            yield rest.removesuffix("\r")

    def json(self) -> object:
        """The whole document. Figures that JSON does not have (NaN, Infinity) read as null. Raises ProviderDown."""
        content = b"".join(self.pieces())
        try:
            read: object = json.loads(content, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            kind = (self.header("Content-Type") or "no type")[:60]
            raise ProviderDown(f"{self._shown}: {len(content)} bytes ({kind}) that are not readable JSON") from None
        return read

    def said(self) -> str:
        """The beginning of the answer as one line, for a message."""
        begin = b""
        with contextlib.suppress(ProviderFailure):
            for piece in self.pieces():
                begin += piece
                if len(begin) > 2000:
                    break
        plain = re.sub(r"<[^>]*>|[\x00-\x20\x7f]+", " ", begin[:2000].decode("utf-8", "replace"))
        return self._guard.exchange.clean(" ".join(plain.split()))[:200]

    def pieces(self) -> Iterator[bytes]:
        """The content, gzip undone, as it arrives. Raises ProviderDown past the bound, at a cut or a stall."""
        encoding = (self.header("Content-Encoding") or "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise ProviderDown(f"{self._shown}: sent in an encoding that was not asked for")
        total = 0
        for piece in self._raw() if encoding == "identity" else _gunzipped(self._raw(), self._guard):
            total += len(piece)
            if total > self._at_most:
                raise ProviderDown(f"{self._shown}: larger than the {self._at_most} bytes that are read at most")
            yield piece

    def _raw(self) -> Iterator[bytes]:
        while True:
            with self._guard.words():
                piece = self._response.read1(_PIECE)
                # Unlike `read`, `read1` is silent about a connection that ended before the announced length.
                if not piece and self._response.length:
                    raise http.client.IncompleteRead(b"")
            if not piece:
                return
            yield piece

    @property
    def _shown(self) -> str:
        return self._guard.exchange.shown

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._guard.stop()
        self._response.close()
        self._connection.close()


def shown(url: str) -> str:
    """A URL as it may be printed: neither user nor query nor anything unprintable, and not for ever."""
    try:
        place = urlsplit(url)
        host, port = place.hostname or "", f":{place.port}" if place.port else ""
    except ValueError:
        return "(an unreadable URL)"
    text = f"{place.scheme}://{host}{port}{place.path}" + ("?…" if place.query else "")
    return "".join(char for char in text if char.isprintable())[:300]


def _judged(reply: WebReply, exchange: _Exchange) -> WebReply:
    status = reply.status
    if status in (http.HTTPStatus.OK, http.HTTPStatus.NOT_MODIFIED):
        return reply
    with reply:
        what = f"{exchange.shown}: answered {status}" + (f": {said}" if (said := reply.said()) else "")
        if status == http.HTTPStatus.TOO_MANY_REQUESTS:
            raise Throttled(what, retry_after=_pause(reply.header("Retry-After"), reply.header("Date")))
        if status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
            raise CredentialsRejected(what)
        if 400 <= status < 500:
            raise RequestInvalid(what)
        raise ProviderDown(what)


def _gunzipped(pieces: Iterator[bytes], guard: _Guard) -> Iterator[bytes]:
    """Undo gzip a piece at a time, so that a small bomb never becomes a large block of memory."""
    member = zlib.decompressobj(16 + zlib.MAX_WBITS)
    begun = False
    for piece in pieces:
        left = piece
        while left:
            if member.eof:
                member = zlib.decompressobj(16 + zlib.MAX_WBITS)
            begun = True
            with guard.words():
                content = member.decompress(left, _PIECE)
            left = member.unused_data if member.eof else member.unconsumed_tail
            if content:
                yield content
    while begun and not member.eof:
        # Output may be left inside the decompressor once the input is used up.
        with guard.words():
            content = member.decompress(b"", _PIECE)
            if not content:
                raise http.client.IncompleteRead(b"")
        yield content


def _pause(said: str | None, date: str | None) -> float:
    """Seconds that a Retry-After asks for; a date counts from the server's own. A minute where it cannot be read."""
    try:
        wait = float(said or "60")
    except ValueError:
        try:
            wait = (parsedate_to_datetime(said or "") - parsedate_to_datetime(date or "")).total_seconds()
        except (ValueError, TypeError):
            wait = 60.0
    return min(max(wait, 0.0), _LONGEST_PAUSE_S) if math.isfinite(wait) else _LONGEST_PAUSE_S


def _secrets_of(url: str, headers: Mapping[str, str], body: bytes | None) -> list[str]:
    """What must not be printed of a question: values in its headers, its query and its body; longest first."""
    with contextlib.suppress(ValueError):
        query = " ".join(value for _, value in parse_qsl(urlsplit(url).query))
        held = " ".join([*headers.values(), query, (body or b"").decode("utf-8", "replace")])
        return sorted(set(_SECRET_LIKE.findall(held)), key=len, reverse=True)
    return []


def _header_value(value: str) -> str:
    """A value that cannot smuggle a header; what was sent by a server before is not trusted either."""
    return "".join(char for char in value if " " <= char <= "~")[:2000]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxy() -> SplitResult | None:
    """The proxy for https that the environment names."""
    named = urllib.request.getproxies().get("https")
    if not named:
        return None
    return urlsplit(named if "://" in named else f"http://{named}")


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    user = unquote(f"{proxy.username}:{proxy.password or ''}").encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(user).decode()}"}
