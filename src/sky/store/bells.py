"""Wake-ups between servers: what one notifies, the others' signals hear, by PostgreSQL's LISTEN and NOTIFY.

Hints, as all signals are: they may come late or not at all, and polling is the truth behind them. So nothing here is
retried, and where they do not come (PgBouncer in transaction mode passes none on) the signals are told, and those who
wait look more often. Run by `postgres`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import asyncpg

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.kit.ids import request_id as fresh_id
from sky.kit.signals import Signals

log = logging.getLogger(__name__)

CHANNEL = "sky_wakeups"
#: The most that PostgreSQL carries in one notification is 8000 bytes.
_MOST_BYTES = 7000
#: Seconds between trials of the line, for one to come back, and before a line that is broken is tried again.
_TRIAL_S, _ECHO_S, _AGAIN_S = 15.0, 3.0, 5.0
_TRIAL = "trial"


class Bells:
    """Between `signals` and the database. `send` notifies a channel; `listen_at` is the direct address."""

    def __init__(self, send: Callable[[str, str], Awaitable[None]], listen_at: str, signals: Signals) -> None:
        self._send = send
        self._listen_at = listen_at
        self._signals = signals
        self._me = fresh_id()[:16]
        self._pending: dict[str, None] = {}
        self._rung = asyncio.Event()
        self._echo = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Join; call within the loop."""
        self._signals.join(self._note)
        self._signals.heard(all_of_them=False)
        self._tasks = [asyncio.create_task(loop, name="wake-ups") for loop in (self._tell(), self._listen())]

    async def stop(self) -> None:
        """Leave."""
        self._signals.join(None)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _note(self, topic: str) -> None:
        self._pending[topic] = None
        self._rung.set()

    async def _tell(self) -> None:
        """Send what was notified; what comes while one message is on its way goes together in the next."""
        while True:
            await self._rung.wait()
            self._rung.clear()
            topics, self._pending = self._pending, {}
            for payload in packed(self._me, topics):
                with suppress(ServerTemporarilyUnavailableError):
                    await self._send(CHANNEL, payload)

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        sender, *topics = str(payload).split("\n")
        if sender == self._me:
            self._echo.set()
            return
        for topic in topics:
            if topic != _TRIAL:
                self._signals.ring(topic)

    async def _listen(self) -> None:
        told = False
        while True:
            try:
                connection = await asyncpg.connect(self._listen_at, timeout=10.0, statement_cache_size=0)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as away:
                log.info("wake-ups: the database cannot be listened to: %s", away)
                await asyncio.sleep(_AGAIN_S)
                continue
            try:
                with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await connection.add_listener(CHANNEL, self._hear)
                    await self._try_out(connection)
            finally:
                self._signals.heard(all_of_them=False)
                connection.terminate()
            if not told:
                told = True
                log.warning(
                    "wake-ups of other servers do not arrive: what they change is looked for each second. "
                    "PgBouncer in transaction mode passes none on; name the database's own address too"
                )
            await asyncio.sleep(_AGAIN_S)

    async def _try_out(self, connection: asyncpg.Connection) -> None:
        """Send to ourselves now and then; return when nothing comes back."""
        while not connection.is_closed():
            self._echo.clear()
            self._note(_TRIAL)
            try:
                async with asyncio.timeout(_ECHO_S):
                    await self._echo.wait()
            except TimeoutError:
                return
            if not self._signals.hears_all:
                log.info("wake-ups of others arrive")
                self._signals.heard(all_of_them=True)
            await asyncio.sleep(_TRIAL_S)


def packed(sender: str, topics: dict[str, None]) -> Iterator[str]:
    """Messages of a size that can be carried: the sender, then topics, by line."""
    batch, size = [sender], len(sender)
    for topic in topics:
        length = len(topic.encode()) + 1
        if length > _MOST_BYTES // 2:
            # No topic of ours is of that size: its id is not one.
            continue
        if size + length > _MOST_BYTES:
            yield "\n".join(batch)
            batch, size = [sender], len(sender)
        batch.append(topic)
        size += length
    if len(batch) > 1:
        yield "\n".join(batch)
