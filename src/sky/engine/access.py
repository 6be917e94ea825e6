"""Which places can be used; asked for `sky check`, and remembered for a while for everything that plans."""

import asyncio
from collections.abc import Sequence

from sky.core.errors import NotSupportedError, ProviderFailure
from sky.core.ports import Access, Providers
from sky.kit.clock import Clock

#: Seconds for which an answer is good enough to plan by. Asking a cloud who one is takes a second; credentials last.
_GOOD_FOR_S = 300.0
#: After so many seconds it is not good enough even until a new one comes.
_TOO_OLD_S = 3600.0


class AccessBoard:
    """What each place said last, and when."""

    def __init__(self, providers: Providers, clock: Clock) -> None:
        self._providers = providers
        self._clock = clock
        self._known: dict[str, tuple[float, Access]] = {}
        self._asking: dict[str, asyncio.Future[Access]] = {}

    async def check(self, clouds: Sequence[str] | None = None) -> list[Access]:
        """Ask places (None: all that are known) now, side by side."""
        asked = self._providers.places() if clouds is None else clouds
        return list(await asyncio.gather(*(self._ask(cloud) for cloud in asked)))

    async def enabled(self) -> frozenset[str]:
        """Places where machines can be rented now, as far as is known from the last few minutes."""
        now, names = self._clock.now(), self._providers.names()
        age = {name: now - self._known[name][0] if name in self._known else _TOO_OLD_S for name in names}
        for name in names:
            if _GOOD_FOR_S <= age[name] < _TOO_OLD_S and name not in self._asking:
                # A place that is slow to answer holds up nobody: what it said last counts until it says more.
                self._asking[name] = asyncio.ensure_future(self._ask(name))
                self._asking[name].add_done_callback(lambda _, name=name: self._asking.pop(name, None))  # type: ignore[misc]
        await asyncio.gather(*(self._ask(name) for name in names if age[name] >= _TOO_OLD_S))
        return frozenset(name for name in names if self._known[name][1].enabled)

    def usable(self, cloud: str) -> bool:
        """Whether a place could be used when it was asked last."""
        known = self._known.get(cloud)
        return known is not None and known[1].enabled

    def why_not(self, cloud: str) -> str | None:
        """What a place said when it was asked last, if it cannot be used."""
        known = self._known.get(cloud)
        return known[1].reason if known is not None and not known[1].enabled else None

    async def _ask(self, cloud: str) -> Access:
        try:
            access = await self._providers.check(cloud)
        except (NotSupportedError, ProviderFailure) as error:
            access = Access(cloud, False, str(error))
        self._known[cloud] = (self._clock.now(), access)
        return access
