"""What one server process is told when it starts; everything else it reads from its store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sky.kit.paths import socket_path
from sky.wire.protocol import DEFAULT_PORT


@dataclass(frozen=True, slots=True)
class Settings:
    """`state_dir` holds all that this server keeps. Without `host` it listens on its Unix socket only.

    `auth` is the section of that name, in place of the one in `~/.sky/.server.yaml`.
    """

    state_dir: Path
    host: str | None = None
    port: int = DEFAULT_PORT
    token_file: Path | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    auth: Mapping[str, object] | None = None

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
        """The bearer token of the TCP listener: as named, or made by the server on first use."""
        return self.token_file or self.state_dir / "token"
