"""What one server process is told when it starts; everything else it reads from its store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from sky.kit.paths import socket_path
from sky.wire.protocol import DEFAULT_PORT


class Role(StrEnum):
    """What a server does of all there is to do; several may share one database.

    Each answers. What is recorded is driven by those that are not `API` alone.
    """

    ALL = "all"
    API = "api"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class SharedDatabase:
    """Where PostgreSQL is: `uri` itself, `pooled` where statements go through PgBouncer. Both may hold a password."""

    uri: str = field(repr=False)
    pooled: str | None = field(default=None, repr=False)
    connections: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """`state_dir` holds what is this server's own. Without `host` it listens on its Unix socket only.

    Without `database` it is the only server, and keeps its records in a file of its own. `shared_dir` is for what all
    servers on one database need to see: talk, uploads, keys, the catalog. `share_port` lets several servers of one
    machine listen on one port. `objects` is the address of an object store for uploads, in place of the directory; talk
    is on record then. `auth` is the section of that name, in place of the one in `~/.sky/.server.yaml`.
    """

    state_dir: Path
    host: str | None = None
    port: int = DEFAULT_PORT
    token_file: Path | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    role: Role = Role.ALL
    shared_dir: Path | None = None
    database: SharedDatabase | None = None
    share_port: bool = False
    auth: Mapping[str, object] | None = None
    objects: str | None = None

    @property
    def files(self) -> Path:
        """Where files are that servers share; with one server its own directory."""
        return self.shared_dir or self.state_dir

    @property
    def passing(self) -> Path:
        """Where uploads and talk are. With an object store these are copies, and this server's own."""
        return self.files if self.objects is None else self.state_dir

    @property
    def socket(self) -> Path:
        """Where it listens for its owner."""
        return socket_path(self.state_dir)

    @property
    def lock_file(self) -> Path:
        """Held locked while a server of this state directory runs; tells which one."""
        return self.state_dir / "server.lock"

    @property
    def log_file(self) -> Path:
        """What the server writes about itself."""
        return self.state_dir / "server.log"

    @property
    def secret_file(self) -> Path:
        """The bearer token of the TCP listener: as named, or made by the first server on first use."""
        return self.token_file or self.files / "token"


def database_of(env: Mapping[str, str], configured: str | None) -> SharedDatabase | None:
    """The database that the environment names, or else the configuration (`db`); None for a file of the server's own.

    Never from the command line, which every user of the machine can read. Raises ValueError, without the address.
    """
    uri = env.get("SKYPILOT_DB_CONNECTION_URI") or configured
    if not uri:
        return None
    pooled, place = env.get("SKYPILOT_DB_POOL_CONNECTION_URI"), env.get("SKYPILOT_DB_POOL_HOSTPORT")
    if not pooled and place:
        parts = urlsplit(uri)
        who, at, _ = parts.netloc.rpartition("@")
        pooled = parts._replace(netloc=f"{who}{at}{place}").geturl()
    said = env.get("SKY_DB_CONNECTIONS")
    if said is not None and not (said.isdecimal() and int(said) > 0):
        raise ValueError(f"SKY_DB_CONNECTIONS is not a number of connections: {said[:20]!r}")
    return SharedDatabase(uri, pooled or None, int(said) if said else None)
