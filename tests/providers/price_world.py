"""A server on this machine that answers as places do: well, slowly, in halves, with somebody else's page."""

import gzip
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from sky.core.ports import PriceAsk
from sky.providers.web import PublicWeb

RECORDED = Path(__file__).parent / "recorded"
NOW = 1_790_000_000.0


class World:
    """Answers by path; `asked` are the requests as (method, target, headers, body)."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.release = threading.Event()
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                world.asked.append((self.command, unquote(self.path), dict(self.headers), body))
                found = world.answers.get(unquote(self.path)) or world.answers.get(self.path.partition("?")[0])
                if found is None:
                    found = (404, {}, b"nothing here")
                self.close_connection = True
                if callable(found):
                    found = found(self, body)
                if found is not None:
                    self.give(*found)

            def give(self, status, headers, body):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_CONNECT = answer  # noqa: N815 what http.server calls

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a client that leaves early is what some tests are about

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def json(self, path, document, **headers):
        self.answers[path] = (200, {"Content-Type": "application/json", **headers}, json.dumps(document).encode())

    def text(self, path, content, **headers):
        self.answers[path] = (200, {"Content-Type": "text/csv", **headers}, content.encode())

    def recorded(self, path, name, replace=None):
        content = (RECORDED / name).read_text().replace("ENDPOINT", self.url)
        for old, new in (replace or {}).items():
            assert old in content
            content = content.replace(old, new)
        kind = "application/json" if name.endswith(".json") else "text/csv"
        self.answers[path] = (200, {"Content-Type": kind}, content.encode())

    def cut(self, path, keep=0.5):
        """From now on the connection ends in the middle of this document."""
        status, headers, body = self.answers[path]
        self.answers[path] = (status, {**headers, "Content-Length": str(len(body))}, body[: int(len(body) * keep)])

    def zipped(self, path):
        status, headers, body = self.answers[path]
        self.answers[path] = (status, {**headers, "Content-Encoding": "gzip"}, gzip.compress(body))

    def stall(self, path):
        """From now on half of this document arrives, and then nothing until the test is over."""
        _, _, body = self.answers[path]

        def answer(handler, _):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body[: len(body) // 2])
            handler.wfile.flush()
            self.release.wait(30)

        self.answers[path] = answer

    def ask(self, known=(), **config):
        return PriceAsk(NOW, {each.url: each for each in known}, {"endpoint": self.url, **config})

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()


@pytest.fixture
def web():
    return PublicWeb(timeout_s=20, stall_s=10)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home directory and no credentials in the environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SHADEFORM_API_KEY", "HCLOUD_TOKEN", "DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN",
                 "MITHRIL_API_KEY", "PRIME_INTELLECT_API_KEY", "PRIME_API_KEY", "LAMBDA_API_KEY",
                 "HYPERBOLIC_API_KEY", "FLUIDSTACK_API_KEY", "VERDA_CLIENT_ID", "VERDA_CLIENT_SECRET",
                 "RUNPOD_API_KEY", "CUDO_API_KEY", "GCP_API_KEY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def unused_port():
    """A port of this machine at which nobody answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
