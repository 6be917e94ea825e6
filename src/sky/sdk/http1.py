"""A small HTTP/1.1 client over a Unix socket, TCP or TLS, on the standard library's sockets.

`http.client` would do, at 25 ms of imports for e-mail headers and TLS that a command line over a Unix socket never
needs. Speaks what our server answers in: bodies of known length and chunks. Called by `sdk.transport`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from types import TracebackType

#: Bytes of one header line, and lines of a head, beyond which an answer is not HTTP of ours.
_LONGEST_LINE = 65_536
_MOST_HEADERS = 100


class CannotConnect(OSError):
    """Nobody listens there."""


class ConnectionLost(OSError):
    """The connection ended, or went silent, before the answer was complete."""


class NotHttp(OSError):
    """What answered does not speak HTTP/1.1."""


class BodyChanged(OSError):
    """The file being sent became shorter on the way."""


class Address:
    """Where a server is: `kind` is `unix`, `http` or `https`."""

    __slots__ = ("host", "kind", "path", "port", "prefix")

    def __init__(self, kind: str, path: str = "", host: str = "", port: int = 0, prefix: str = "") -> None:
        self.kind = kind
        self.path = path
        self.host = host
        self.port = port
        self.prefix = prefix

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}{self.prefix}"


class Connection:
    """One connection, for one exchange after the other. Not for several threads at a time."""

    def __init__(self, address: Address, timeout: float) -> None:
        """Connect; `timeout` in seconds, also of every later wait for a byte. Raises CannotConnect."""
        self.address = address
        try:
            self._sock = _connect(address, timeout)
        except OSError as refused:
            raise CannotConnect(f"{address}: {refused}") from refused
        self._file: BufferedReader = self._sock.makefile("rb", buffering=65_536)  # type: ignore[assignment]
        self.used = 0

    def set_timeout(self, timeout: float) -> None:
        """Seconds to wait for a byte from now on."""
        self._sock.settimeout(timeout)

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | Path | None = None
    ) -> Response:
        """Send a request and read the head of its answer. A Path is sent as the file's content.

        Raises ConnectionLost, NotHttp; FileNotFoundError and PermissionError for the file.
        """
        self.used += 1
        size = body.stat().st_size if isinstance(body, Path) else len(body or b"")
        host = "sky" if self.address.kind == "unix" else self.address.host
        lines = [f"{method} {self.address.prefix}{target} HTTP/1.1", f"Host: {host}", f"Content-Length: {size}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        file = body.open("rb") if isinstance(body, Path) else None
        try:
            self._sock.sendall(head if file else head + (body if isinstance(body, bytes) else b""))
            if file is not None and size and self._sock.sendfile(file, 0, size) < size:
                raise BodyChanged(f"{file.name} became shorter while it was sent")
        except (BrokenPipeError, ConnectionResetError):
            # The server may have answered (too large, no token) before it read everything.
            pass
        except TimeoutError as silent:
            raise ConnectionLost(f"{self.address} takes no more bytes") from silent
        finally:
            if file is not None:
                file.close()
        return self._head()

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._sock.close()

    def __del__(self) -> None:
        # A thread that ends lets go of its idle connections without a word.
        if hasattr(self, "_file"):
            self.close()

    def _head(self) -> Response:
        status_line = self._line()
        parts = status_line.split(None, 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
            raise NotHttp(f"{self.address} does not speak HTTP: {status_line[:80]!r}")
        headers: dict[str, str] = {}
        while line := self._line():
            if len(headers) >= _MOST_HEADERS:
                raise NotHttp(f"{self.address} sent more than {_MOST_HEADERS} headers")
            name, _, value = line.partition(b":")
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        return Response(self, int(parts[1]), headers)

    def _line(self) -> bytes:
        line = self.read_line()
        if not line.endswith(b"\n"):
            raise NotHttp(f"{self.address} sent a header that is too long")
        return line.rstrip(b"\r\n")

    def read_line(self) -> bytes:
        """The next line as it came, at most 64 KiB. Raises ConnectionLost where there is none."""
        try:
            line = self._file.readline(_LONGEST_LINE)
        except (OSError, ValueError) as lost:
            raise ConnectionLost(f"{self.address}: {lost}") from lost
        if not line:
            raise ConnectionLost(f"{self.address} hung up")
        return line

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises ConnectionLost."""
        try:
            data = self._file.read(size)
        except (OSError, ValueError) as lost:
            raise ConnectionLost(f"{self.address}: {lost}") from lost
        if len(data) < size:
            raise ConnectionLost(f"{self.address} hung up in the middle of an answer")
        return data

    def read_some(self) -> bytes:
        """Whatever comes next; empty at the end of the connection."""
        try:
            return self._file.read1(65_536)
        except (OSError, ValueError) as lost:
            raise ConnectionLost(f"{self.address}: {lost}") from lost


class Response:
    """The head of an answer, and the way to its body. `headers` have lower-case names."""

    def __init__(self, connection: Connection, status: int, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length", "")
        self._length = int(length) if length.isdigit() else None

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another exchange once the body is read."""
        framed = self._chunked or self._length is not None
        return framed and self.headers.get("connection", "").lower() != "close"

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives. Raises ConnectionLost if it ends too early."""
        if self._chunked:
            yield from self._chunks()
        elif self._length is not None:
            if self._length:
                yield self._connection.read(self._length)
        else:
            while piece := self._connection.read_some():
                yield piece

    def lines(self) -> Iterator[bytes]:
        """The body line by line, each as soon as it is complete; what follows the last line end is left out."""
        rest = b""
        for piece in self.pieces():
            *complete, rest = (rest + piece).split(b"\n")
            yield from complete

    def close(self) -> None:
        """Hang up without reading the rest."""
        self._connection.close()

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size_line = self._connection.read_line().strip()
            try:
                size = int(size_line.partition(b";")[0], 16)
            except ValueError:
                raise NotHttp(f"{self._connection.address} sent a broken chunk: {size_line[:40]!r}") from None
            if size:
                yield self._connection.read(size)
                self._connection.read_line()
                continue
            while self._connection.read_line().strip():
                pass
            return

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _connect(address: Address, timeout: float) -> socket.socket:
    if address.kind == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(address.path)
        except OSError:
            sock.close()
            raise
        return sock
    sock = socket.create_connection((address.host, address.port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if address.kind == "http":
        return sock
    import ssl  # noqa: PLC0415 - 8 ms that only remote servers cost

    return ssl.create_default_context().wrap_socket(sock, server_hostname=address.host)


def quote(text: str) -> str:
    """A text for a query string, percent-encoded."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in text.encode())


def query(pairs: Iterable[tuple[str, object]]) -> str:
    """A query string with its question mark; pairs whose value is None are left out."""
    parts = [
        f"{name}={quote(str(value).lower() if isinstance(value, bool) else str(value))}"
        for name, value in pairs
        if value is not None
    ]
    return "?" + "&".join(parts) if parts else ""
