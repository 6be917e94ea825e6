"""The server as a process of its own: one per state directory, started once, killed and back, stopped in good order."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from serving import eventually

from sky.core.errors import ApiServerConnectionError
from sky.kit.paths import LONGEST_SOCKET_PATH, private_dir, socket_path, state_dir
from sky.sdk import clusters, requests, server, starting
from sky.server.__main__ import parse
from sky.server.lock import AlreadyRunning, InstanceLock


@pytest.fixture(autouse=True)
def _small_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "SERVER_ARGUMENTS", [*starting.SERVER_ARGUMENTS, "--plane", "small_plane:build"])


def test_started_on_first_use_found_again_and_stopped(state: Path) -> None:
    assert [each.name for each in requests.get(clusters.status())] == ["one", "two"]
    pid = starting.note(state)["pid"]
    assert server.api_info().pid == pid
    assert os.getsid(pid) != os.getsid(0)
    begun = time.monotonic()
    server.api_stop()
    assert time.monotonic() - begun < starting.LET_GO_S, "it went by itself"
    assert not starting.is_running(state)
    assert not socket_path(state).exists()
    with pytest.raises(ApiServerConnectionError, match="not running"):
        server.api_stop()


def test_two_clients_start_one(state: Path) -> None:
    script = (
        "from sky.sdk import starting, server\n"
        "starting.SERVER_ARGUMENTS += ['--plane', 'small_plane:build']\n"
        "print(server.api_info().pid)\n"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(3)
    ]
    told = {racer.communicate(timeout=60)[0] for racer in racers}
    assert told == {f"{starting.note(state)['pid']}\n"}


def test_killed_at_once_and_back(state: Path) -> None:
    requests.get(clusters.status())
    first = starting.note(state)["pid"]
    os.kill(first, signal.SIGKILL)
    assert [each.name for each in requests.get(clusters.status())] == ["one", "two"]
    assert starting.note(state)["pid"] != first


def test_wait_outlives_a_killed_server(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*starting.SERVER_ARGUMENTS[:-1], "small_plane:build_slow"]
    monkeypatch.setattr(starting, "SERVER_ARGUMENTS", arguments)
    id = clusters.launch({"run": "true"}, "one")
    pid = starting.note(state)["pid"]
    script = (
        "from sky.sdk import starting, requests\n"
        f"starting.SERVER_ARGUMENTS[:] = {arguments!r}\n"
        f"print(requests.stream_and_get({str(id)!r})[0])\n"
    )
    waiter = subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert waiter.stdout is not None
    assert waiter.stdout.readline() == "launch begins\n"
    os.kill(pid, signal.SIGKILL)
    said, _ = waiter.communicate(timeout=60)
    assert said == "launch is over\n7\n"


def test_sigterm_ends_it_in_good_order(state: Path) -> None:
    requests.get(clusters.status())
    pid = starting.note(state)["pid"]
    os.kill(pid, signal.SIGTERM)
    assert starting.wait_until_gone(state, starting.LET_GO_S)
    assert (state / "server.log").read_text().rstrip().endswith("stopped")


def test_stale_socket_is_replaced(state: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(socket_path(state)))
    assert len(requests.get(clusters.status())) == 2


def test_failure_to_start_shows_why(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [*starting.SERVER_ARGUMENTS[:-1], "small_plane:build_broken"]
    monkeypatch.setattr(starting, "SERVER_ARGUMENTS", broken)
    with pytest.raises(ApiServerConnectionError, match="the store is from a newer version"):
        clusters.status()


def test_a_server_killed_while_it_starts_is_started_once_more(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os, pathlib, sys; mark = pathlib.Path(os.environ['SKY_STATE_DIR'], 'tries')\n"
        "tries = int(mark.read_text() or 0) if mark.exists() else 0\n"
        "mark.write_text(str(tries + 1))\n"
        "if tries < int(os.environ['DEATHS']): os.kill(os.getpid(), 9)\n"
        "os.execv(sys.executable, [sys.executable, '-P', '-m', 'sky.server', *sys.argv[1:]])\n"
    )
    monkeypatch.setattr(starting, "SERVER_ARGUMENTS", ["-c", script, "--plane", "small_plane:build"])
    monkeypatch.setenv("DEATHS", "1")
    assert len(requests.get(clusters.status())) == 2
    server.api_stop()
    (state / "tries").unlink()
    monkeypatch.setenv("DEATHS", "9")
    with pytest.raises(ApiServerConnectionError, match="ended by signal 9"):
        clusters.status()
    assert (state / "tries").read_text() == "2"


def test_second_server_is_refused(state: Path) -> None:
    requests.get(clusters.status())
    command = [sys.executable, *starting.SERVER_ARGUMENTS, "--state", str(state)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 3
    assert str(starting.note(state)["pid"]) in refused.stderr


def test_idle_server_of_another_version_is_replaced(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests.get(clusters.status())
    first = starting.note(state)["pid"]
    monkeypatch.setattr("sky.sdk.transport.__version__", "9.9.9")
    assert len(requests.get(clusters.status())) == 2
    second = starting.note(state)["pid"]
    assert second != first
    # The new one is of the same version here; it is not replaced over and over.
    requests.get(clusters.status())
    assert starting.note(state)["pid"] == second


def test_api_start_twice_is_once_and_tcp_comes_with_a_token(state: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    server.api_start(port=port)
    pid = starting.note(state)["pid"]
    server.api_start(port=port)
    assert starting.note(state)["pid"] == pid
    assert (state / "token").stat().st_mode & 0o777 == 0o600
    assert server.api_info().service_account_token_enabled is True


def test_server_log_can_be_read(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    requests.get(clusters.status())
    server.api_server_logs(follow=False)
    assert "listening" in capsys.readouterr().out


def test_lock_is_exclusive_and_leaves_no_note(tmp_path: Path) -> None:
    path = tmp_path / "server.lock"
    with InstanceLock(path, started_at=1.0, socket=tmp_path / "s"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
        with pytest.raises(AlreadyRunning, match=str(os.getpid())):
            InstanceLock(path, started_at=2.0, socket=tmp_path / "s").__enter__()
    assert path.read_text() == ""


def test_long_state_path_gets_a_short_socket(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = state / ("d" * 60) / ("e" * 60)
    monkeypatch.setenv("SKY_STATE_DIR", str(deep))
    short = socket_path(deep)
    assert len(os.fsencode(short)) < LONGEST_SOCKET_PATH
    assert short == socket_path(deep)
    assert short != socket_path(state)
    assert len(requests.get(clusters.status())) == 2
    assert short.parent.stat().st_mode & 0o777 == 0o700
    server.api_stop()
    eventually(lambda: not short.parent.exists())


def test_state_dir_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir({}) == tmp_path / ".local/state/sky"
    assert state_dir({"XDG_STATE_HOME": "/x"}) == Path("/x/sky")
    assert state_dir({"XDG_STATE_HOME": "relative"}) == tmp_path / ".local/state/sky"
    assert state_dir({"XDG_STATE_HOME": "/x", "SKY_STATE_DIR": "~/mine"}) == tmp_path / "mine"


def test_private_dir_closes_what_was_open(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir(mode=0o755)
    assert private_dir(path).stat().st_mode & 0o777 == 0o700
    (tmp_path / "f").write_text("")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        private_dir(tmp_path / "f")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a directory that is somebody else's")
def test_socket_folder_of_somebody_else_is_refused(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = state / ("d" * 100)
    short = socket_path(deep).parent
    short.mkdir()
    try:
        os.chown(short, 54321, -1)
        monkeypatch.setenv("SKY_STATE_DIR", str(deep))
        with pytest.raises(PermissionError, match="another user"):
            clusters.status()
        os.chown(short, 0, -1)
        short.rmdir()
        (state / "mine").mkdir()
        short.symlink_to(state / "mine")
        os.chown(short, 54321, -1, follow_symlinks=False)
        with pytest.raises(PermissionError, match="another user"):
            clusters.status()
    finally:
        if short.is_symlink():
            short.unlink()
        else:
            short.rmdir()


def test_arguments(state: Path) -> None:
    settings, given = parse(["--host", "127.0.0.1", "--port", "1234", "--foreground"])
    assert (settings.state_dir, settings.host, settings.port, given.foreground) == (state, "127.0.0.1", 1234, True)
