"""The catalog of this server: the newest generation, the user's overrides, and refreshes as child processes.

Made by `server.assembly`; the engine sees `core.ports.Catalogs`.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sky.core.catalog.overrides import Overrides
from sky.core.errors import CommandError
from sky.core.model.catalog import Refreshed, RefreshState
from sky.core.ports import Catalog
from sky.providers.registry import Registry
from sky.server.refreshing import BUSY, Order
from sky.store.catalog.build import build
from sky.store.catalog.generations import Generations
from sky.store.catalog.override_files import FOLDER, OverrideFiles
from sky.store.catalog.read import CatalogFile, Unusable

log = logging.getLogger(__name__)

#: How much of what a child said on stderr is shown when it fails, in characters.
_LAST_WORDS = 2000


class CatalogHome:
    """See `core.ports.Catalogs`. `section` gives the section `catalog` of the configuration as it is now."""

    def __init__(self, directory: Path, registry: Registry, section: Callable[[], Mapping[str, object]]) -> None:
        self._directory = directory
        self._registry = registry
        self._section = section
        self._generations = Generations(directory)
        self._folders: dict[Path, OverrideFiles] = {}
        self._nothing: CatalogFile | None = None

    def current(self) -> Catalog:
        """The newest generation; an empty one where there is neither a seed nor anything refreshed."""
        try:
            return self._generations.reader()
        except Unusable:
            if self._nothing is None:
                log.warning("there is no catalog: `sky catalog refresh` makes one")
                self._nothing = self._empty()
            return self._nothing

    def _empty(self) -> CatalogFile:
        with tempfile.TemporaryDirectory(prefix="sky-") as folder:
            path = Path(folder) / "empty.sqlite"
            build(path, [])
            return CatalogFile.of_bytes(path.read_bytes(), "empty")

    def overrides(self) -> Overrides:
        """The user's own rows and rules."""
        named = self._section().get("folder")
        path = (Path(named) if isinstance(named, str) else FOLDER).expanduser()
        return self._folders.setdefault(path, OverrideFiles(path)).read(self.current())

    def refreshable(self) -> Sequence[str]:
        """Clouds with a price source."""
        return [cloud for cloud in self._registry.places() if self._registry.has_prices(cloud)]

    async def refresh(
        self,
        clouds: Sequence[str] | None,
        if_older_s: float | None,
        say: Callable[[str], None],
        *,
        accept: bool = False,
    ) -> Sequence[Refreshed]:
        """Run one refresh to its end; cancelled, its process ends with it. Raises CommandError when it breaks."""
        sources = self._section().get("sources")
        order = Order(self._directory, clouds, if_older_s, sources if isinstance(sources, Mapping) else {}, accept)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "sky.server.refreshing"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            limit=2**20,
        )
        assert child.stdin is not None and child.stderr is not None
        last_words = asyncio.ensure_future(child.stderr.read())
        try:
            child.stdin.write(order.encode())
            child.stdin.close()
            outcomes = await _follow(child, say)
            code = await child.wait()
        finally:
            await _end(child)
            said = (await last_words).decode(errors="replace").strip()
        if code == BUSY:
            raise CommandError(code, "sky catalog refresh", "another refresh of this catalog is under way", None)
        if code != 0:
            why = said.rpartition("\n")[2]
            words = f"the refresh broke off: {why}" if why else "the refresh broke off"
            raise CommandError(code, "sky catalog refresh", words, said[-_LAST_WORDS:] or None)
        return outcomes


async def _follow(child: Process, say: Callable[[str], None]) -> list[Refreshed]:
    assert child.stdout is not None
    outcomes: list[Refreshed] = []
    async for line in child.stdout:
        told = json.loads(line)
        if "say" in told:
            say(str(told["say"]))
        else:
            outcomes.append(Refreshed(**{**told, "state": RefreshState(told["state"])}))
    return outcomes


async def _end(child: Process) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
