"""PostgreSQL, PgBouncer and S3 for tests: private ones in folders of their own, gone with the run.

Imported by `tests/conftest.py`. Started as an ordinary user, since neither runs as root. What is written need not
outlive the machine, so nothing is forced to disk.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_USER = "sky"
_UP_S = 90.0


@cache
def programs() -> Path | None:
    """The folder with `initdb` and `postgres`, the newest one; None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@cache
def missing() -> str:
    """Why no PostgreSQL can be started here; empty if one can."""
    if programs() is None:
        return "PostgreSQL is not installed; tests/testbed/install.sh does that on Debian"
    if os.geteuid() == 0 and _ordinary() is None:
        return "PostgreSQL does not run as root, and there is no user named postgres"
    return ""


def _ordinary() -> str | None:
    """The user to run as; None for ourselves, and where there is none to be had."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return None


class Postgres:
    """One server. `uri` gives a fresh database's address."""

    def __init__(self) -> None:
        # Where an ordinary user can enter, whatever this user's own folder for temporary files is.
        self.folder = Path(tempfile.mkdtemp(prefix="sky-pg-", dir=None if _ordinary() is None else "/tmp"))
        self.password = secrets.token_hex(8)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (self.folder / "password").write_text(self.password)
        if (user := _ordinary()) is not None:
            shutil.chown(self.folder, user)
            shutil.chown(self.folder / "password", user)
        binaries = programs()
        assert binaries is not None
        self._bin = binaries
        made = self._run(
            *(str(binaries / "initdb"), "-D", str(self.folder / "data"), "-U", _USER, "--auth=scram-sha-256"),
            *("--pwfile", str(self.folder / "password"), "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"),
        )
        assert made.returncode == 0, made.stdout
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "max_connections": "150",
        }
        words = [str(self._bin / "postgres"), "-D", str(self.folder / "data")]
        for name, value in options.items():
            words += ["-c", f"{name}={value}"]
        self._process = self._spawn(words, "postgres.log")
        self._until_it_answers()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it, in good order or by `SIGQUIT` at once, as a crash would."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """End it and remove it."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self) -> str:
        """Make a database; its name."""
        name = f"t{secrets.token_hex(6)}"
        self.say("postgres", f"CREATE DATABASE {name}")
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.say("postgres", f"DROP DATABASE {name} WITH (FORCE)")

    def uri(self, name: str, port: int | None = None) -> str:
        """A database's address, with the password in it."""
        return f"postgresql://{_USER}:{self.password}@127.0.0.1:{port or self.port}/{name}"

    def say(self, name: str, words: str) -> str:
        """Run SQL; what it answers, bare."""
        done = subprocess.run(
            [str(self._bin / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", words, self.uri(name)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def pgbouncer(self) -> Iterator[int]:
        """PgBouncer in transaction mode before this server, with few connections; its port."""
        port, folder = _free_port(), self.folder / f"pgbouncer-{secrets.token_hex(4)}"
        folder.mkdir()
        (folder / "users").write_text(f'"{_USER}" "{self.password}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={self.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {folder}/users\n"
            "pool_mode = transaction\ndefault_pool_size = 5\nmax_client_conn = 200\nlogfile =\npidfile =\n"
        )
        if (user := _ordinary()) is not None:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, user)
        process = self._spawn([pgbouncer_program() or "pgbouncer", str(folder / "pgbouncer.ini")], "pgbouncer.log")
        try:
            _until_somebody_listens(port, process)
            yield port
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)

    def _until_it_answers(self) -> None:
        until = time.monotonic() + _UP_S
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready).returncode != 0:
            assert self._process is not None and self._process.poll() is None, self._said("postgres.log")
            assert time.monotonic() < until, self._said("postgres.log")
            time.sleep(0.02)

    def _said(self, log: str) -> str:
        return (self.folder / log).read_text(errors="replace")[-2000:]

    def _spawn(self, words: Sequence[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as out:
            return subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder, **_as_ordinary()
            )

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder, **_as_ordinary()
        )


class S3:
    """An S3 of this machine, as moto plays it."""

    def __init__(self) -> None:
        port = _free_port()
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._url = f"http://127.0.0.1:{port}"
        _until_somebody_listens(port, self._process)

    def bucket(self) -> tuple[str, dict[str, str]]:
        """Make a bucket; its name, and the environment by which it is reached."""
        name = f"b{secrets.token_hex(6)}"
        urllib.request.urlopen(urllib.request.Request(f"{self._url}/{name}", method="PUT"), timeout=60).close()
        return name, {
            "AWS_ENDPOINT_URL": self._url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "made-up",
            "AWS_SECRET_ACCESS_KEY": "made-up",
            "AWS_REGION": "us-east-1",
        }

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)


def pgbouncer_program() -> str | None:
    """Where PgBouncer is, if it is installed."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _as_ordinary() -> dict[str, object]:
    user = _ordinary()
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def _until_somebody_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _UP_S
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, "it ended"
        assert time.monotonic() < until, "it did not come up"
        time.sleep(0.02)
