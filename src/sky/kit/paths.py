"""Where this user's state lives, and the address of a local server; the one rule that client and server share.

Called by the server (settings, lock, socket), by the client (which finds or starts that server), and by tests.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

#: A Unix socket's path must fit `sockaddr_un` (108 bytes on Linux, 104 on macOS, with the final zero).
LONGEST_SOCKET_PATH = 100


def state_dir(env: Mapping[str, str] | None = None) -> Path:
    """The directory of all state: `SKY_STATE_DIR`, else `$XDG_STATE_HOME/sky`, else `~/.local/state/sky`. Absolute."""
    env = os.environ if env is None else env
    named = env.get("SKY_STATE_DIR")
    if named:
        return Path(named).expanduser().absolute()
    home = env.get("XDG_STATE_HOME")
    root = Path(home) if home and Path(home).is_absolute() else Path("~/.local/state").expanduser()
    return root / "sky"


def socket_path(state: Path) -> Path:
    """The Unix socket of the server of a state directory.

    A path too long for a socket is replaced by a short one under /tmp that client and server both derive from the
    state directory; it must not depend on the environment, which may differ between the two.
    """
    path = state / "api.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    import hashlib  # noqa: PLC0415 - 4 ms of every command, for the few whose path is too long

    mark = hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
    return Path(f"/tmp/sky-{os.getuid()}-{mark}") / "api.sock"  # noqa: S108 - `private_dir` refuses a foreign one


def private_dir(path: Path) -> Path:
    """Make a directory that only its owner may enter, and return it.

    Raises PermissionError if it, or the link that it is, belongs to somebody else, as under /tmp it may.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for found in (path.lstat(), path.stat()):
        if found.st_uid != os.getuid():
            raise PermissionError(
                f"{path} belongs to another user (uid {found.st_uid}); remove it or set SKY_STATE_DIR."
            )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o700)
    return path
