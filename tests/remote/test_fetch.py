"""Files from the web come to a node whole or not at all, and not twice; what goes wrong is told with node and URL."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sky.remote.errors import SyncFailed
from sky.remote.fetch import fetch, script

CONTENT = b"from the web\n" * 1000


class Site(ThreadingHTTPServer):
    """A server on this machine that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.content, self.etag, self.compares, self.breaks = CONTENT, '"one"', True, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Page(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site, path = self.server, self.path.partition("?")[0]
        site.asked.append((self.path, dict(self.headers)))
        if path == "/moved":
            self.answer(302, Location="/data.bin")
        elif path == "/away":
            self.answer(302, Location="file:///etc/passwd")
        elif path == "/busy" and site.breaks:
            site.breaks -= 1
            self.answer(503)
        elif path == "/none":
            self.answer(404)
        elif path == "/broken" and site.breaks:
            site.breaks -= 1
            self.answer(200, site.content[:100], length=len(site.content))
        elif site.compares and self.headers.get("If-None-Match") == site.etag:
            self.answer(304)
        else:
            self.answer(200, site.content, ETag=site.etag)

    def answer(self, code: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        if code != 304:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


async def test_a_file_comes_once_and_again_when_it_is_another(client: Any, place: Any, site: Site) -> None:
    url = f"{site.url}/data.bin"
    assert await fetch(client, url, "~/in/data.bin", {}, where="node 0") == (True, len(CONTENT))
    there = place.home / "in" / "data.bin"
    assert there.read_bytes() == CONTENT and there.stat().st_mode & 0o400
    assert await fetch(client, url, "~/in/data.bin", {}, where="node 0") == (False, len(CONTENT))
    site.compares = False  # a server that answers in full all the same is hung up on
    assert await fetch(client, url, "~/in/data.bin", {}, where="node 0") == (False, len(CONTENT))
    there.write_bytes(b"changed here")
    assert await fetch(client, url, "~/in/data.bin", {}, where="node 0") == (True, len(CONTENT))
    site.content, site.etag = b"newer", '"two"'
    assert await fetch(client, url, "~/in/data.bin", {}, where="node 0") == (True, 5)
    assert there.read_bytes() == b"newer"
    assert [path.name for path in there.parent.iterdir()] == ["data.bin"]


@pytest.mark.parametrize(
    ("destination", "found"), [("~/in/", "in/data.bin"), ("here/as/x", "here/as/x"), ("{home}/abs/", "abs/data.bin")]
)
async def test_where_it_goes(client: Any, place: Any, site: Site, destination: str, found: str) -> None:
    await fetch(client, f"{site.url}/data.bin?a=b", destination.format(home=place.home), {}, where="node 0")
    assert (place.home / found).read_bytes() == CONTENT


async def test_a_redirect_is_followed_on_the_web_alone(client: Any, place: Any, site: Site) -> None:
    assert await fetch(client, f"{site.url}/moved", "~/x", {}, where="node 0") == (True, len(CONTENT))
    with pytest.raises(SyncFailed, match=r"file:///etc/passwd.* is not allowed"):
        await fetch(client, f"{site.url}/away", "~/y", {}, where="node 0")
    assert not (place.home / "y").exists()


@pytest.mark.parametrize("path", ["busy", "broken"])
async def test_what_may_pass_is_tried_again(client: Any, place: Any, site: Site, path: str) -> None:
    site.breaks = 1
    assert await fetch(client, f"{site.url}/{path}", "~/x", {}, where="node 0") == (True, len(CONTENT))
    assert len(site.asked) == 2


async def test_what_breaks_off_leaves_the_old_file(client: Any, place: Any, site: Site) -> None:
    (place.home / "x").write_text("old")
    site.breaks = 100
    with pytest.raises(SyncFailed, match=r"^node 7 could not fetch http://127.*/broken to ~/x: .* after 100 of 13000"):
        await fetch(client, f"{site.url}/broken", "~/x", {}, where="node 7")
    assert (place.home / "x").read_text() == "old"
    assert list(place.home.glob(".sky-fetch-*")) == []
    assert len(site.asked) == 3


async def test_what_is_not_there_is_told_with_its_status_and_no_secret(client: Any, site: Site) -> None:
    url = f"{site.url}/none?signature=s3cr3t".replace("://", "://ada:passw0rd@")
    with pytest.raises(SyncFailed, match=r"node 0 could not fetch .*/none\?\.\.\. to ~/x: HTTP status 404") as caught:
        await fetch(client, url, "~/x", {}, where="node 0")
    assert "s3cr3t" not in str(caught.value) and "passw0rd" not in str(caught.value)
    (asked,) = site.asked
    assert asked[0] == "/none?signature=s3cr3t" and asked[1]["Authorization"].startswith("Basic ")
    assert "s3cr3t" not in script()


@pytest.mark.parametrize(
    ("url", "destination", "reason"),
    [
        ("{site}/", "~/in/", "ends in no file name"),
        ("{site}/..%2fx", "~/in/", "ends in no file name"),
        ("{site}/data.bin", "~/folder", "is a folder: end the destination in /"),
        ("{site}/data.bin", "~/../x", "leads out of its folder"),
        ("{site}/data.bin", "/proc/nowhere/x", "cannot be written"),
        ("http://127.0.0.1:1/x", "~/x", "Connection refused"),
        ("ftp://127.0.0.1/x", "~/x", "only http and https"),
    ],
)
async def test_what_cannot_be(client: Any, place: Any, site: Site, url: str, destination: str, reason: str) -> None:
    (place.home / "folder").mkdir()
    with pytest.raises(SyncFailed, match=reason):
        await fetch(client, url.format(site=site.url), destination, {}, where="node 0")


async def test_the_task_says_how_the_web_is_reached(client: Any, place: Any, site: Site) -> None:
    env = {"http_proxy": site.url, "OTHER": "x"}
    await fetch(client, "http://elsewhere.example.org/data.bin", "~/x", env, where="node 0")
    assert [path for path, _ in site.asked] == ["http://elsewhere.example.org/data.bin"]


async def test_a_certificate_is_checked(client: Any, place: Any, tmp_path: Any) -> None:
    import ssl

    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    site = Site()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    site.handle_error = lambda request, address: None  # type: ignore[method-assign]
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        url = site.url.replace("http://127.0.0.1", "https://localhost") + "/data.bin"
        with pytest.raises(SyncFailed, match=r"(?i)certificate"):
            await fetch(client, url, "~/x", {}, where="node 0")
        assert await fetch(client, url, "~/x", {"SSL_CERT_FILE": str(cert)}, where="node 0") == (True, len(CONTENT))
    finally:
        site.shutdown()
        thread.join()
        site.server_close()


async def test_a_note_that_is_broken_counts_as_none(client: Any, place: Any, site: Site) -> None:
    await fetch(client, f"{site.url}/data.bin", "~/x", {}, where="node 0")
    (note,) = (place.home / ".sky" / "fetched").iterdir()
    assert set(json.loads(note.read_text())) == {"etag", "modified", "facts"}
    note.write_text('{"etag": 1')
    assert await fetch(client, f"{site.url}/data.bin", "~/x", {}, where="node 0") == (True, len(CONTENT))
