"""Finds providers by entry point (group `sky.providers`); `server.assembly` opens it once.

A provider that cannot be loaded is unavailable with a reason, never an import error for everybody.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from sky.core.errors import NotSupportedError
from sky.core.ports import Access, Compute, PriceSource


@dataclass(frozen=True, slots=True)
class Settings:
    """What a provider is opened with: its own folder for state, and its section of the configuration as it is now."""

    state_dir: Path
    config: Callable[[], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A provider without its SDK: loadable in microseconds.

    `factory` is `module:function` taking `Settings`, empty where machines cannot be rented yet. `prices` is
    `module:function`, a `core.ports.PriceSource`, empty where there is none. `credentials` are where a user's
    credentials are found, any of them: `env:NAME` or `file:~/path`. `fix` is what a user without them does, line by
    line. `offered` are the features of the interface that the place has: `stop`, `autostop`, `autodown`, `multi_node`,
    `spot`, `ports`, `docker`, `image`, `disk_tier`, `network_tier`, `mounts`, `controllers`, `clone_disk`,
    `local_disk`.
    """

    name: str
    title: str
    capabilities: tuple[str, ...]
    factory: str = ""
    fix: str = ""
    prices: str = ""
    credentials: tuple[str, ...] = ()
    offered: frozenset[str] = frozenset()

    def open(self, settings: Settings) -> Compute:
        """Load the provider's code and open it. Raises ImportError when its extra is not installed."""
        factory: Callable[[Settings], Compute] = _load(self.factory)
        return factory(settings)

    def price_source(self) -> PriceSource | None:
        """What refreshes the prices of this place, if there is something."""
        return _load(self.prices) if self.prices else None


def _load(named: str) -> Any:
    module, _, function = named.partition(":")
    return getattr(import_module(module), function)


class Registry:
    """The providers of this installation. See `core.ports.Providers`."""

    def __init__(self, state_dir: Path, config: Callable[[str], Mapping[str, object]]) -> None:
        self._state_dir = state_dir
        self._config = config
        self._entries: dict[str, EntryPoint] = {each.name: each for each in entry_points(group="sky.providers")}
        self._manifests: dict[str, Manifest | ImportError] = {}
        self._open: dict[str, Compute] = {}

    def places(self) -> Sequence[str]:
        """Names of all places that are known here, whether machines can be rented there or not, sorted."""
        return sorted(self._entries)

    def names(self) -> Sequence[str]:
        """Names of the places where machines can be rented, or could if they loaded, sorted."""
        return [name for name in self.places() if not isinstance(made := self._loaded(name), Manifest) or made.factory]

    def manifest(self, cloud: str) -> Manifest:
        """What is known of a place without its SDK. Raises NotSupportedError."""
        if cloud not in self._entries:
            raise NotSupportedError(
                f"not supported yet on {cloud}: this installation has providers for {', '.join(self.places())} only"
            )
        made = self._loaded(cloud)
        if isinstance(made, ImportError):
            raise _not_loadable(cloud, made)
        return made

    def offered(self, cloud: str) -> frozenset[str] | None:
        """The features of the interface that a place has; None where that is not known."""
        return self.manifest(cloud).offered or None

    def has_prices(self, cloud: str) -> bool:
        """Whether the place has something to be asked for prices."""
        made = self._loaded(cloud)
        return isinstance(made, Manifest) and bool(made.prices)

    def _loaded(self, cloud: str) -> Manifest | ImportError:
        if cloud not in self._manifests:
            try:
                self._manifests[cloud] = self._entries[cloud].load()
            except ImportError as error:
                self._manifests[cloud] = error
        return self._manifests[cloud]

    def compute(self, cloud: str) -> Compute:
        """The provider, opened at its first use. Raises NotSupportedError."""
        if cloud in self._open:
            return self._open[cloud]
        manifest = self.manifest(cloud)
        if not manifest.factory:
            raise NotSupportedError(
                f"not supported yet on {cloud}: this version knows its prices, and cannot rent machines there"
            )
        try:
            opened = manifest.open(Settings(self._state_dir / cloud, lambda: self._config(cloud)))
        except ImportError as error:
            raise _not_loadable(cloud, error) from error
        self._open[cloud] = opened
        return opened

    async def check(self, cloud: str) -> Access:
        """Whether the cloud can be used; a provider that cannot be loaded says why."""
        try:
            return await self.compute(cloud).check()
        except NotSupportedError as error:
            return Access(cloud, False, str(error))


def _not_loadable(cloud: str, error: ImportError) -> NotSupportedError:
    return NotSupportedError(
        f"the provider for {cloud} cannot be loaded: {error}; install it with: pip install 'altostratus[{cloud}]'"
    )
