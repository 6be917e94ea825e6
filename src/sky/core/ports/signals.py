"""Hints that something changed, and where progress for the user goes. Adapters: `kit.signals`, `engine.talk`."""

from collections.abc import AsyncIterator
from typing import Protocol


class Watch(Protocol):
    """Notices changes of a topic since the last look; none is missed between two looks."""

    async def changed(self, timeout: float) -> bool:
        """True when notified since the last call, False after `timeout` seconds."""
        ...


class Wakeups(Protocol):
    """Hints that something changed; polling is the truth behind them."""

    def notify(self, topic: str) -> None: ...

    def watch(self, topic: str) -> Watch: ...


class Progress(Protocol):
    """Where a request's talk for the user goes; kept with the request, read back by offset."""

    def say(self, request_id: str, text: str) -> None: ...

    def follow(self, request_id: str, offset: int) -> AsyncIterator[tuple[bytes, int]]: ...
