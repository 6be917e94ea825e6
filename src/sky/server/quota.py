"""How much each user may upload within a day, so that nobody fills the server's disk for all. Called by the routes of
uploads.

`api_server.uploads_per_user_gb` of the configuration sets it. Counted by each server for itself and since its start:
what nobody uses is removed after a day, so that this bounds what a user can have there, as far as one server goes.
"""

from collections.abc import AsyncIterator, Callable, Mapping

from sky.core.errors import ConcurrentWorkerExhaustedError
from sky.kit.clock import Clock

#: Gigabytes (1e9 bytes) unless the configuration says otherwise.
USUAL_GB = 200.0
_DAY_S = 86400.0
#: A day is counted in this many parts.
_PARTS = 24
_GB = 1e9


class Quota:
    """See the module. `section` gives the section `api_server` as it is now."""

    def __init__(self, clock: Clock, section: Callable[[], Mapping[str, object]]) -> None:
        self._clock = clock
        self._section = section
        #: Bytes by user and part of the day, counted since the epoch.
        self._taken: dict[str, dict[int, int]] = {}

    def take(self, user: str, size: int) -> None:
        """Count bytes that a user uploads. Raises ConcurrentWorkerExhaustedError beyond what they may."""
        said = self._section().get("uploads_per_user_gb")
        most = (float(said) if isinstance(said, int | float) else USUAL_GB) * _GB
        now = int(self._clock.now() / _DAY_S * _PARTS)
        taken = {part: count for part, count in self._taken.get(user, {}).items() if part > now - _PARTS}
        if sum(taken.values()) + size > most:
            raise ConcurrentWorkerExhaustedError(
                f"{user} has uploaded {sum(taken.values()) / _GB:.1f} GB within a day, and may upload {most / _GB:g} "
                "(api_server.uploads_per_user_gb). Ask again later, or name a bucket or an address on the web instead."
            )
        taken[now] = taken.get(now, 0) + size
        self._taken[user] = taken

    async def counted(self, user: str, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The pieces of an upload, each counted before it is given on."""
        async for piece in pieces:
            self.take(user, len(piece))
            yield piece
