"""Keeps the catalog young: carries out `catalog_refresh` requests, and asks by itself for the places that are in use.

Run by `plane`. Nobody waits for the second: commands answer from the generation that there is, and say how old it is.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping

from sky.core.errors import CommandError, ProviderFailure
from sky.core.model.requests import Request
from sky.core.ports import Catalogs
from sky.engine.desk import Desk
from sky.engine.duties import Alone, Duties
from sky.kit.clock import Clock

log = logging.getLogger(__name__)

#: Age in hours at which prices are asked for again, unless the configuration says another.
OLDER_THAN_H = 7.0
#: Seconds between looks at the age of prices.
_LOOK_S = 600.0


async def catalog_refresh(desk: Desk, request: Request) -> object:
    """Result: one mapping per cloud: `{"cloud", "state", "detail", "offers", "quarantined"}`."""
    clouds, older = request.body.get("clouds"), request.body.get("if_older_s")
    found = await desk.catalogs.refresh(
        [str(each) for each in clouds] if isinstance(clouds, list) else None,
        float(str(older)) if older is not None else None,
        lambda text: desk.talk.say(request.id, text),
        accept=bool(request.body.get("accept")),
    )
    return [{**each._asdict(), "state": each.state.value} for each in found]


class CatalogCare:
    """Refreshes in the background what is enabled. `section` is the section `catalog` of the configuration."""

    def __init__(
        self,
        catalogs: Catalogs,
        enabled: Callable[[], Awaitable[frozenset[str]]],
        clock: Clock,
        section: Callable[[], Mapping[str, object]],
        duties: Duties | None = None,
    ) -> None:
        self._catalogs = catalogs
        self._enabled = enabled
        self._clock = clock
        self._section = section
        self._duties = duties or Alone()

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            try:
                await self.look()
            except (CommandError, ProviderFailure, OSError) as error:
                log.warning("the catalog could not be refreshed: %s", error)
            await self._clock.sleep(_LOOK_S)

    async def look(self) -> None:
        """Ask once for the prices of enabled places that are too old. With none enabled, nothing is asked."""
        section = self._section()
        if section.get("refresh") is False or not self._duties.has("catalog"):
            return
        wanted = sorted(await self._enabled() & set(self._catalogs.refreshable()))
        if not wanted:
            return
        hours = section.get("older_than_hours")
        older = float(hours) if isinstance(hours, int | float) else OLDER_THAN_H
        for each in await self._catalogs.refresh(wanted, older * 3600, log.debug):
            log.info("catalog of %s: %s %s", each.cloud, each.state, each.detail)
