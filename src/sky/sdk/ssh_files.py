"""The configuration by which `ssh NAME`, editors and `scp` get onto the nodes of clusters, kept in step with them.

Called by `sdk.ssh_seen` when something changed, and by the command line before it starts `ssh` itself. One file for
each cluster below `~/.sky/generated/ssh`, and one line in the user's own `~/.ssh/config` that includes them. What the
server says is checked before it is written: a line too many in such a file is a command that `ssh` runs.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sky.core.errors import InvalidClusterNameError, SkyError
from sky.core.model.names import check_cluster_name

INCLUDE = "Include ~/.sky/generated/ssh/*"
_INCLUDED = re.compile(
    r"^[ \t]*Include[ \t]+[\"']?~/\.sky/generated/ssh/\*[\"']?[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
_BY = "# Written by sky; changes are overwritten. Server:"
_HOST = re.compile(r"[A-Za-z0-9_.:%-]{1,255}\Z")
_USER = re.compile(r"[A-Za-z0-9_.@\\$-]{1,64}\Z")
_KEY = re.compile(r"[a-z0-9@.-]{1,64} [A-Za-z0-9+/=]{16,16384}\Z")
_KNOWN_AS = re.compile(r"[A-Za-z0-9.:\[\]@_%-]{1,600}\Z")
#: Kinds of node that have an SSH server on their way.
_KINDS = ("ssh", "slurm")


class Unwritable(ValueError):
    """What the server says of a node would not be what it seems in a file of SSH."""


def refresh(root: str, state: Path, ask: Callable[[], list[dict[str, Any]]], seen: str | None = None) -> None:
    """Write what is there, remove what is not; `seen` is kept as what the files stand for.

    `root` is the folder of all files, `state` that of the server, `ask` gives its clusters. Nothing is raised: the
    files are a convenience, and what was asked for has been done by now.
    """
    folder = Path(root)
    with suppress(OSError, SkyError), _one_at_a_time(folder):
        # Asked within: an answer from before another command's would take away what that one has written.
        clusters = [each for each in ask() if any(node["kind"] in _KINDS for node in each["nodes"])]
        kept = {cluster["name"] for cluster in clusters if _written(cluster, folder, state)}
        _remove_others(kept, folder, state)
        if kept:
            _include(folder)
        if seen is not None:
            _replace(folder / ".seen", seen)


def write(cluster: Mapping[str, Any], root: Path, state: Path) -> Path:
    """The file of one cluster, brought up to date. Raises Unwritable, InvalidClusterNameError, OSError."""
    name = check_cluster_name(cluster["name"])
    known, path = root / "known_hosts" / name, root / "ssh" / name
    text, keys = texts(cluster, known)
    # The keys first: the file must not lead to a node whose key is not there yet.
    _replace(known, keys)
    _replace(path, f"{_BY} {state}\n{text}")
    return path


def _written(cluster: Mapping[str, Any], root: Path, state: Path) -> bool:
    try:
        write(cluster, root, state)
    except (Unwritable, InvalidClusterNameError) as error:
        sys.stderr.write(f"No SSH configuration for cluster {str(cluster.get('name'))[:80]!r}: {error}\n")
        return False
    return True


def host_of(cluster: str, rank: int) -> str:
    """What a node is called for `ssh`."""
    return cluster if rank == 0 else f"{cluster}-worker{rank}"


def texts(cluster: Mapping[str, Any], known: Path) -> tuple[str, str]:
    """The configuration of a cluster's nodes, and the host keys that the file `known` is to have. Raises Unwritable."""
    name = cluster["name"]
    blocks: list[str] = []
    keys: dict[str, str] = {}
    logins: set[str] = set()
    for node in cluster["nodes"]:
        if node["problem"] or node["kind"] not in _KINDS:
            continue
        last = host_of(name, node["rank"])
        if node["kind"] == "slurm":
            last = f"{name}-login"
            if last in logins:
                continue
            logins.add(last)
        before = ""
        for number, entrance in enumerate(node["entrances"], 1):
            called = last if number == len(node["entrances"]) else f"{last}-jump{number}"
            blocks.append(_block(called, entrance, before, known, keys))
            before = called
    return "\n".join(blocks), "".join(f"{alias} {key}\n" for alias, key in keys.items())


def _block(called: str, entrance: Mapping[str, Any], before: str, known: Path, keys: dict[str, str]) -> str:
    """The lines of one SSH server; its host key goes to `keys` where it is on record."""
    alias = _checked(entrance["known_as"], _KNOWN_AS, "name of a host key")
    pins = known
    if entrance["host_key"]:
        alias = called
        keys[alias] = _checked(entrance["host_key"], _KEY, "host key")
    elif entrance["known_hosts"]:
        pins = Path(entrance["known_hosts"])
    lines = [
        f"Host {called}",
        f"  HostName {_checked(entrance['host'], _HOST, 'host').replace('%', '%%')}",
        f"  Port {int(entrance['port'])}",
        f"  User {_checked(entrance['user'], _USER, 'user')}",
        f"  IdentityFile {_path(entrance['identity'])}",
        "  IdentitiesOnly yes",
        f"  HostKeyAlias {alias}",
        f"  UserKnownHostsFile {_path(str(pins))}",
        "  GlobalKnownHostsFile /dev/null",
        "  StrictHostKeyChecking yes",
        "  UpdateHostKeys no",
        "  ConnectTimeout 20",
        "  ServerAliveInterval 10",
        "  ServerAliveCountMax 3",
    ]
    if before:
        lines.append(f"  ProxyJump {before}")
    elif entrance["proxy_command"]:
        lines.append(f"  ProxyCommand {_line(entrance['proxy_command']).replace('%', '%%')}")
    return "\n".join(lines) + "\n"


def _checked(value: object, shape: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str) or not shape.match(value):
        raise Unwritable(f"{str(value)[:80]!r} is no {what}")
    return value


def _line(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise Unwritable(f"{str(value)[:80]!r} cannot stand in a line of an SSH configuration")
    return value


def _path(value: object) -> str:
    """A path in quotes, with nothing in it that SSH would fill in."""
    path = _line(value)
    if '"' in path or "${" in path or "\\" in path:
        raise Unwritable(f"the path {path[:200]!r} cannot stand in an SSH configuration; use one without quotes")
    return '"' + path.replace("%", "%%") + '"'


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_others(kept: Collection[str], root: Path, state: Path) -> None:
    """Remove the files of clusters that are gone: those that this server's clusters had, and nobody else's."""
    folder = root / "ssh"
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        if path.name in kept or path.name.startswith("."):
            continue
        with suppress(OSError), path.open(encoding="utf-8") as file:
            if file.readline().rstrip("\n") == f"{_BY} {state}":
                path.unlink()
                (root / "known_hosts" / path.name).unlink(missing_ok=True)


def _include(root: Path) -> None:
    """Have the user's own configuration include ours, at its top: further down it may belong to one host only."""
    path = Path("~/.ssh/config").expanduser()
    try:
        before = path.read_bytes()
    except FileNotFoundError:
        before = b""
    if _INCLUDED.search(before.decode("utf-8", "replace")):
        return
    why = _untouchable(path)
    if why:
        told = root / ".told"
        if not told.exists():
            sys.stderr.write(f"{why}, and is left as it is. For `ssh NAME`, put this line at its top: {INCLUDE}\n")
            _replace(told, "")
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    rest = b"\n" + before if before else b""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    _replace(path, f"{INCLUDE}\n".encode() + rest, mode)


def _untouchable(path: Path) -> str:
    """Why the user's configuration is not to be replaced by a changed copy; empty when it may be."""
    if path.is_symlink():
        return f"{path} is a link to another file"
    if path.parent.is_symlink():
        return f"{path.parent} is a link to another folder"
    if path.exists() and (not path.is_file() or not os.access(path, os.W_OK) or path.stat().st_uid != os.getuid()):
        return f"{path} cannot be written"
    if path.exists() and not path.stat().st_mode & stat.S_IWUSR:
        return f"{path} is not to be written"
    return ""


def _replace(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Put content in place at once, if it is another one than before."""
    data = content.encode() if isinstance(content, str) else content
    with suppress(OSError):
        if path.read_bytes() == data and stat.S_IMODE(path.stat().st_mode) == mode:
            return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
