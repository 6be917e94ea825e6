"""Several servers on one PostgreSQL database behind one address, and people who type commands there."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


class Server:
    """One server process with a state directory of its own."""

    def __init__(self, house: "House", name: str, role: str, env: dict[str, str]) -> None:
        self._house = house
        self.name = name
        self.role = role
        self.state = house.root / name
        self.env = {**house.env, **env, "SKY_STATE_DIR": str(self.state)}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        reader, writer = os.pipe()
        words = [sys.executable, "-P", "-m", "sky.server", "--state", str(self.state), "--ready-fd", str(writer)]
        words += ["--role", self.role, "--shared", str(self._house.root / "shared")]
        if self.role != "worker":
            words += ["--host", "127.0.0.1", "--port", str(self._house.port), "--share-port"]
            words += ["--token-file", str(self._house.root / "token")]
        with (self._house.root / f"{self.name}.err").open("ab") as err:
            self.process = subprocess.Popen(words, env=self.env, pass_fds=(writer,), stderr=err)
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            assert told.read(6) == b"ready\n", (self._house.root / f"{self.name}.err").read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with no warning."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def stop(self) -> None:
        """End it in good order, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def log(self) -> str:
        """What it said."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.state.glob("server.log*")))


class House:
    """Servers, their database, and the command behind their address."""

    def __init__(self, root: Path, postgres: Any, database: str, pooled: int | None = None) -> None:
        self.root = root
        self.postgres = postgres
        self.database = database
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("SKY", "NO_COLOR", "XDG"))}
        self.env = {**plain, "HOME": str(root), "SKYPILOT_DB_CONNECTION_URI": postgres.uri(database)}
        if pooled is not None:
            self.env["SKYPILOT_DB_POOL_HOSTPORT"] = f"127.0.0.1:{pooled}"
        token = secrets.token_urlsafe(24)
        (root / "token").write_text(token)
        (root / "token").chmod(0o600)
        self._at = {
            **plain,
            "HOME": str(root),
            "SKY_STATE_DIR": str(root / "client"),
            "SKYPILOT_API_SERVER_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "SKYPILOT_SERVICE_ACCOUNT_TOKEN": token,
        }
        self.servers: list[Server] = []
        self._typed: list[subprocess.Popen[str]] = []

    def add(self, role: str, **env: str) -> Server:
        """Start one more server."""
        made = Server(self, f"s{len(self.servers)}", role, env)
        self.servers.append(made)
        made.start()
        return made

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Type a command, and do not wait."""
        sky = str(Path(sys.executable).with_name("sky"))
        typed = subprocess.Popen(
            [sky, *words],
            env=self._at,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._typed.append(typed)
        return typed

    def good(self, *words: str) -> str:
        """Type a command that succeeds; what it says."""
        return self.ended(self.begin(*words))

    def ended(self, command: subprocess.Popen[str], seconds: float = 150) -> str:
        """What a command said, once it has succeeded; before that, several leases may have to run out in turn."""
        said, _ = command.communicate(timeout=seconds)
        assert command.returncode == 0, f"{command.args}: {command.returncode}\n{said}\n{self.troubles()}"
        return said

    def troubles(self) -> str:
        """What servers said of calls that failed in a way that nobody foresaw."""
        found = [part for each in self.servers for part in each.log.split("\n20") if "failure " in part]
        return "\n".join(part[-4000:] for part in found)

    def json(self, *words: str) -> Any:
        """What a command says, as data."""
        said = self.good(*words, "-o", "json")
        return json.loads(said[min(at for at in (said.find("["), said.find("{")) if at >= 0) :])

    def asks(self, words: str) -> str:
        """The answer of the database."""
        answer: str = self.postgres.say(self.database, words)
        return answer

    def ran(self) -> list[str]:
        """The lines that jobs left, sorted."""
        file = self.root / "ran"
        return sorted(file.read_text().split()) if file.exists() else []

    def close(self) -> None:
        """End everything."""
        end_all(self._typed)
        living = [each for each in self.servers if each.process is not None and each.process.poll() is None]
        for each in living:
            each.signal(signal.SIGCONT)
        if living and any(each.role != "worker" for each in living) and any(each.role != "api" for each in living):
            with suppress(AssertionError, subprocess.TimeoutExpired):
                self.good("down", "-a", "-y")
        for each in self.servers:
            each.stop()
        shutil.rmtree(self.root, ignore_errors=True)


def end_all(commands: "list[subprocess.Popen[str]]") -> None:
    """End what still runs of them and close what is open: none is left for the garbage collector to complain of."""
    for each in commands:
        with each:
            if each.poll() is None:
                each.kill()


@contextmanager
def moved_in(postgres: Any, pooled: int | None = None) -> Iterator[House]:
    """A household on a fresh database; nothing of it is left afterwards."""
    database = postgres.database()
    # Not tmp_path: sockets below it need a short path.
    house = House(Path(tempfile.mkdtemp(prefix="sky-e2e-")), postgres, database, pooled)
    try:
        yield house
    finally:
        house.close()
        postgres.drop(database)
