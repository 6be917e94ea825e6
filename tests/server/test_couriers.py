"""Deliveries to real listeners and real commands: signed, bounded, and never into the server's own network unasked."""

import hashlib
import hmac
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sky.core.model.notifications import Sink
from sky.kit.clock import SystemClock
from sky.server import couriers
from sky.server.couriers import Couriers, NotTaken


class Listener:
    """A web server on loopback that answers as it is told."""

    def __init__(self):
        self.status, self.headers, self.heard = 200, {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.heard.append((self.path, dict(self.headers), body))
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *words):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?a=1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def listener():
    made = Listener()
    yield made
    made.close()


@pytest.fixture
async def courier():
    config = {}
    made = Couriers(SystemClock(), lambda name: config)
    made.config = config
    yield made
    await made.close()


NEWS = {"event": "managed_job", "status": "SUCCEEDED"}


async def test_a_delivery_is_signed_over_its_time_and_body(courier, listener):
    await courier.deliver(Sink(listener.url, secret="k", trusted=True), "job:1:0", NEWS)
    ((path, headers, body),) = listener.heard
    assert path == "/hook?a=1" and json.loads(body) == NEWS and headers["X-Sky-Delivery"] == "job:1:0"
    signed = hmac.new(b"k", f"{headers['X-Sky-Timestamp']}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["X-Sky-Signature"] == f"sha256={signed}"
    await courier.deliver(Sink(listener.url, trusted=True), "job:1:0", NEWS)
    assert "X-Sky-Signature" not in listener.heard[1][1]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.0.0.1", "192.168.1.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]",
             "[fe80::1]", "0.0.0.0", "100.64.0.1", "224.0.0.1", "2130706433"],
)  # fmt: skip
async def test_an_address_of_a_user_does_not_lead_into_the_servers_network(courier, host):
    with pytest.raises(NotTaken, match=r"private network|does not answer"):
        await courier.deliver(Sink(f"http://{host}:9/x"), "p", NEWS)


async def test_private_networks_may_be_allowed(courier, listener):
    with pytest.raises(NotTaken, match="private network"):
        await courier.deliver(Sink(listener.url), "p", NEWS)
    assert listener.heard == []
    courier.config["allow_private"] = True
    await courier.deliver(Sink(listener.url), "p", NEWS)
    assert len(listener.heard) == 1


async def test_redirects_are_not_followed(courier, listener):
    listener.status, listener.headers = 307, {"Location": listener.url}
    with pytest.raises(NotTaken, match="redirect"):
        await courier.deliver(Sink(listener.url, trusted=True), "p", NEWS)
    assert len(listener.heard) == 1


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_a_refusal_is_one(courier, listener, status):
    listener.status = status
    with pytest.raises(NotTaken, match=f"answers {status}"):
        await courier.deliver(Sink(listener.url, trusted=True), "p", NEWS)


async def test_nobody_there_and_nobody_who_answers(courier, monkeypatch):
    monkeypatch.setattr(couriers, "ANSWER_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port in (silent.getsockname()[1], 1):
            with pytest.raises(NotTaken, match="does not answer") as told:
                await courier.deliver(Sink(f"http://127.0.0.1:{port}/tok-en", trusted=True), "p", NEWS)
            assert "tok-en" not in str(told.value), "a path may be a secret"


@pytest.mark.parametrize("url", ["http://", "http://u:p@x/", "http://x:99999/", "gopher://x"])
async def test_addresses_that_are_none(courier, url):
    with pytest.raises(NotTaken, match="address"):
        await courier.deliver(Sink(url, trusted=True), "p", NEWS)


async def test_a_command_reads_the_news(courier, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_SERVER", "x")
    words = ("/bin/sh", "-c", f"cat > {tmp_path}/in; env > {tmp_path}/env")
    await courier.deliver(Sink(command=words), "job:1:0", NEWS)
    assert json.loads((tmp_path / "in").read_text()) == NEWS
    env = (tmp_path / "env").read_text()
    assert "SKY_DELIVERY=job:1:0" in env and "SECRET_OF_SERVER" not in env


async def test_commands_that_fail_or_hang_or_are_not_there(courier, monkeypatch):
    for words, within, said in (
        (("false",), 60.0, "ended with 1"),
        (("sleep", "600"), 0.2, "did not end"),
        (("/none",), 60.0, "cannot be run"),
    ):
        monkeypatch.setattr(couriers, "COMMAND_S", within)
        with pytest.raises(NotTaken, match=said):
            await courier.deliver(Sink(command=words), "p", NEWS)
