"""How a node is reached by SSH, as its provider wrote it into `Instance.reach`: read and checked here, once.

What is in a record came from a cloud or from a user's file. It ends up in command lines and file names, so that hosts
and users of any other shape than their own are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .errors import AgentUnreachable

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.:%-]{0,253}[A-Za-z0-9_])?\Z|::[0-9A-Fa-f:.]{0,45}\Z")
_USER = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.@\\$-]{0,62}[A-Za-z0-9_$])?\Z")
_FOLDER = re.compile(r"/?[A-Za-z0-9_.][A-Za-z0-9_.-]{0,63}(?:/[A-Za-z0-9_.-]{1,64}){0,12}\Z")
_HOPS = 8


@dataclass(frozen=True, slots=True)
class Way:
    """The way to an SSH server. `via` is the server before it; `proxy` a shell command that talks to it instead.

    `host_key` is the only key to be accepted (as in `known_hosts`), empty to pin the first. `identity` is a file,
    empty for the installation's key. `cloud` and `secret` are what the password is known by.
    """

    host: str
    port: int
    user: str
    host_key: str = ""
    identity: str = ""
    cloud: str = ""
    secret: str = ""
    via: Way | None = None
    proxy: str = ""

    def __str__(self) -> str:
        return f"{self.user}@{_bracketed(self.host)}:{self.port}" + (f" by way of {self.via}" if self.via else "")

    @property
    def known_as(self) -> str:
        """The name under which a key is pinned. The same address behind another gate is another machine."""
        gate = self.via.known_as if self.via else self.proxy
        return f"[{self.host}]:{self.port}" + (f"@{_mark(gate)}" if gate else "")


def way_of(reach: Mapping[str, str], cloud: str = "") -> Way:
    """The way that `Instance.reach` tells of. Raises AgentUnreachable when it cannot be one."""
    way = _server(reach.get("host", ""), reach.get("port", "") or "22", reach.get("user", ""))
    way = replace(
        way, identity=reach.get("identity", ""), cloud=cloud, secret=reach.get("secret", ""),
        host_key=reach.get("host_key", ""), proxy=reach.get("proxy_command", ""),
    )  # fmt: skip
    gates = [each.strip() for each in reach.get("jump", "").split(",") if each.strip()]
    if len(gates) > _HOPS:
        raise AgentUnreachable(f"node {way.host}: {len(gates)} jump hosts, at most {_HOPS} are followed")
    via: Way | None = None
    for gate in gates:
        via = replace(_gate(gate, way), via=via)
    return replace(way, via=via)


def folder_of(reach: Mapping[str, str]) -> str:
    """The folder under the login's home that is the node's alone, empty for the home itself.

    Where a batch system's settings name a folder for homes, it is an absolute path.
    """
    folder = reach.get("home", "")
    plain = _FOLDER.match(folder) and ".." not in folder.split("/")
    if folder and (not plain or (folder.startswith("/") and reach.get("kind") != "slurm")):
        raise AgentUnreachable(f"a node's home must be a plain folder under the login's home, found {folder!r}")
    return folder


def temporary_of(reach: Mapping[str, str]) -> str:
    """The folder for what is temporary on the node's machine."""
    folder = reach.get("tmp", "") or "/tmp"  # noqa: S108 - what is made in it is for nobody else
    if not folder.startswith("/") or not _FOLDER.match(folder) or ".." in folder.split("/"):
        raise AgentUnreachable(f"a node's folder for temporary files must be an absolute path, found {folder!r}")
    return folder


def command_of(way: Way) -> str:
    """The proxy command with its places filled: %h host, %p port, %r user, %% a percent sign."""
    values = {"h": way.host, "p": str(way.port), "r": way.user, "n": way.host, "%": "%"}

    def fill(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise AgentUnreachable(f"node {way.host}: proxy_command knows %h, %p, %r and %%, found {found[0]!r}")
        return values[found[1]]

    return re.sub(r"%(.?)", fill, way.proxy)


def _gate(text: str, node: Way) -> Way:
    """A jump host, `[user@]host[:port]`; who and with what key is as for the node where it is not said."""
    user, _, rest = text.rpartition("@")
    host, port = rest, "22"
    if rest.startswith("["):
        host, _, port = rest[1:].partition("]")
        port = port.removeprefix(":") or "22"
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    gate = _server(host, port, user or node.user)
    return replace(gate, identity=node.identity, cloud=node.cloud, secret=node.secret)


def _server(host: str, port: str, user: str) -> Way:
    if not _HOST.match(host):
        raise AgentUnreachable(f"{host!r} is no host name or address to be reached by SSH")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise AgentUnreachable(f"node {host}: {port!r} is no port")
    if not _USER.match(user):
        raise AgentUnreachable(f"node {host}: {user!r} is no user to log in as")
    return Way(host, int(port), user)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _mark(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.:\[\]_-]", "_", text)[:80]
