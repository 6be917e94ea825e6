"""Which run of its system a machine is in: whatever a power failure takes back was written in an earlier one."""

from pathlib import Path

_LINUX = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """A word that is another one after each start of the system; empty where the system tells none."""
    try:
        return _LINUX.read_text("ascii").strip()
    except OSError:
        return ""
