"""A repository of the web is checked out with a login that nobody else on the machine gets to see."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sky.core.errors import AgentRefused
from sky.remote.checkout import Address, address_of, check_out

WORD = "s3cr3t/with:all@"
QUOTED = "s3cr3t%2Fwith%3Aall%40"


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Forge(ThreadingHTTPServer):
    """A repository for those who log in, which looks at the list of processes whenever it is asked."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.root = root
        self.users: list[str] = []
        self.seen: list[bytes] = []
        self.programs: set[bytes] = set()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def look(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes()
            except OSError:
                continue
            if self.host.encode() in words:
                self.programs.add(words.split(b"\0")[0])
            if b"s3cr3t" in words:
                self.seen.append(words)


class Door(BaseHTTPRequestHandler):
    server: Forge

    def do_GET(self) -> None:
        self.server.look()
        scheme, _, word = self.headers.get("Authorization", "").partition(" ")
        user, _, password = base64.b64decode(word).decode().partition(":")
        if scheme != "Basic" or password != WORD:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="forge"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.server.users.append(user)
        path, _, query = self.path.partition("?")
        given = {
            "GIT_PROJECT_ROOT": str(self.server.root), "GIT_HTTP_EXPORT_ALL": "1", "REQUEST_METHOD": self.command,
            "PATH_INFO": path, "QUERY_STRING": query, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }  # fmt: skip
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        done = subprocess.run(["git", "http-backend"], input=body, env={**os.environ, **given}, capture_output=True)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        told = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(told.pop("Status", "200").split()[0]))
        for name, value in told.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET  # noqa: N815 - the library's name

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q")
    for name in ("one", "two"):
        (work / name).write_text(name)
        git(work, "add", ".")
        git(work, "commit", "-q", "-m", name)
    git(tmp_path, "clone", "-q", "--bare", "work", "r.git")
    made = Forge(tmp_path)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


async def test_a_login_is_in_no_list_of_processes_and_in_no_file(client: Any, place: Any, forge: Forge) -> None:
    head = git(forge.root / "work", "rev-parse", "HEAD")
    url = f"http://ada:{QUOTED}@{forge.host}/r.git"
    assert await check_out(client, url, None, {}, where="node 0") == head
    assert (place.home / "sky_workdir" / "two").read_text() == "two"
    older = git(forge.root / "work", "rev-parse", "HEAD~1")
    assert await check_out(client, url, older, {}, where="node 0") == older
    assert not (place.home / "sky_workdir" / "two").exists()
    assert set(forge.users) == {"ada"} and any(b"git" in each for each in forge.programs)
    assert forge.seen == []
    holders = [path for path in place.home.rglob("*") if path.is_file() and b"s3cr3t" in path.read_bytes()]
    assert holders == [] and list((place.home / ".sky").glob("git.*")) == []
    assert git(place.home / "sky_workdir", "remote", "get-url", "origin") == f"http://{forge.host}/r.git"


async def test_a_token_among_the_variables_is_a_login_too(client: Any, place: Any, forge: Forge) -> None:
    env = {"GIT_TOKEN": WORD, "OTHER": "x"}
    await check_out(client, f"http://{forge.host}/r.git", None, env, where="node 0")
    assert (place.home / "sky_workdir" / "one").read_text() == "one"
    assert set(forge.users) == {"x-access-token"} and forge.seen == []


async def test_a_login_that_is_refused_is_told_without_it(client: Any, forge: Forge) -> None:
    with pytest.raises(AgentRefused, match=rf"git could not check out http://{forge.host}/r.git on node 3: ") as caught:
        await check_out(client, f"http://ada:s3cr3t-no@{forge.host}/r.git", None, {}, where="node 3")
    assert "s3cr3t" not in str(caught.value) and forge.users == [] and forge.seen == []
    with pytest.raises(AgentRefused, match="terminal prompts disabled"):
        await check_out(client, f"http://{forge.host}/r.git", None, {}, where="node 3")


def test_what_of_an_address_is_a_login() -> None:
    assert address_of("https://a:b%40@h:1/r?x") == Address("https://h:1/r?x", "a", "b@")
    assert address_of("https://token@h/r", "other") == Address("https://h/r", "token", "")
    assert address_of("https://h/r", "t") == Address("https://h/r", "x-access-token", "t")
    assert address_of("https://h/r") == Address("https://h/r")
    for other in ("git@h:r.git", "ssh://git@h/r", "/srv/r.git", "file:///srv/r.git"):
        assert address_of(other, "t") == Address(other)
