"""A Python from the web for nodes that have none: fetched by the server, once, and believed only by its checksum."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import importlib.util
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sky.core.errors import AgentUnreachable
from sky.remote.interpreter import Interpreters, pack
from sky.remote.keys import KeyRing
from sky.server.fleet import NodeFleet

_FOUND = importlib.util.spec_from_file_location("ssh_nodes", Path(__file__).with_name("ssh_nodes.py"))
nodes = importlib.util.module_from_spec(_FOUND)
_FOUND.loader.exec_module(nodes)


class Shelf(ThreadingHTTPServer):
    """A server on this machine with one archive."""

    def __init__(self, data):
        super().__init__(("127.0.0.1", 0), Page)
        self.data, self.asked, self.code = data, [], 200

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/python.tar.gz"


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(self.server.code)
        self.send_header("Content-Length", str(len(self.server.data)))
        self.end_headers()
        self.wfile.write(self.server.data)

    def log_message(self, format, *args):
        """Nothing is said."""


@pytest.fixture(scope="module")
def packed():
    return pack()


@pytest.fixture
def shelf(packed):
    made = Shelf(packed)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


async def test_an_archive_of_the_web_serves_a_node_without_python(lab, tmp_path, shelf):
    host, keys = nodes.bare_host(lab), KeyRing(tmp_path / "keys")
    settings = {"python_archive": shelf.url, "python_archive_sha256": "0" * 64}
    fleet = NodeFleet(None, keys, None, lambda: settings)
    cluster = nodes.cluster_of(nodes.reach_of(host))
    with pytest.raises(AgentUnreachable, match=rf"{shelf.url} has the SHA-256 [0-9a-f]{{64}}, expected 0000"):
        await fleet.bring_up(cluster)
    assert host.run("ls -d ~/.sky/python").stdout == "", "nothing of it was sent"
    settings["python_archive_sha256"] = hashlib.sha256(shelf.data).hexdigest().upper()
    await fleet.bring_up(cluster)
    assert shelf.asked == ["/python.tar.gz"] * 2, "ours would have done, and the one that is named was taken"
    assert host.run("~/.sky/python/bin/python3 -V").returncode == 0
    assert b"through" in await nodes.output(fleet, cluster, "echo through", "k")
    await fleet.quiesce(cluster)
    await fleet.forget("c")


async def test_it_is_fetched_once_and_one_that_is_wrong_is_not_kept(tmp_path, shelf):
    settings = {"python_archive": shelf.url, "python_archive_sha256": "0" * 64}
    ours = Interpreters(lambda: settings, tmp_path / "kept")
    for _ in range(2):
        with pytest.raises(AgentUnreachable, match="expected 0000"):
            await ours.archive("any", "")
    assert len(shelf.asked) == 2 and list((tmp_path / "kept").glob("*")) == []
    settings["python_archive_sha256"] = hashlib.sha256(shelf.data).hexdigest()
    found = await asyncio.gather(*(ours.archive("any", "") for _ in range(3)))
    assert found == [shelf.data] * 3 and len(shelf.asked) == 3
    # What lies there was changed behind our back, or another one is wanted by now: it is fetched again.
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_bytes(gzip.compress(b"other"))
    assert await ours.archive("any", "") == shelf.data
    assert len(shelf.asked) == 4


async def test_a_server_that_does_not_have_it_is_told(tmp_path, shelf):
    shelf.code = 404
    ours = Interpreters(lambda: {"python_archive": shelf.url}, tmp_path)
    with pytest.raises(AgentUnreachable, match=rf"provision\.python_archive: {shelf.url} cannot be read: .*404"):
        await ours.archive("any", "")
