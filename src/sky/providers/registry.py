"""Finds providers by entry point (group `sky.providers`); `server.assembly` opens it once.

A provider that cannot be loaded is unavailable with a reason, never an import error for everybody.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from sky.core.errors import NotSupportedError
from sky.core.ports import Access, Compute


@dataclass(frozen=True, slots=True)
class Settings:
    """What a provider is opened with: its own folder for state, and its section of the configuration as it is now."""

    state_dir: Path
    config: Callable[[], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A provider without its SDK: loadable in microseconds. `factory` is `module:function` taking `Settings`."""

    name: str
    title: str
    capabilities: tuple[str, ...]
    factory: str
    fix: str = ""

    def open(self, settings: Settings) -> Compute:
        """Load the provider's code and open it. Raises ImportError when its extra is not installed."""
        module, _, function = self.factory.partition(":")
        factory: Callable[[Settings], Compute] = getattr(import_module(module), function)
        return factory(settings)


class Registry:
    """The providers of this installation. See `core.ports.Providers`."""

    def __init__(self, state_dir: Path, config: Callable[[str], Mapping[str, object]]) -> None:
        self._state_dir = state_dir
        self._config = config
        self._entries: dict[str, EntryPoint] = {each.name: each for each in entry_points(group="sky.providers")}
        self._open: dict[str, Compute] = {}

    def names(self) -> Sequence[str]:
        """Names of all providers, loadable or not, sorted."""
        return sorted(self._entries)

    def compute(self, cloud: str) -> Compute:
        """The provider, opened at its first use. Raises NotSupportedError."""
        if cloud in self._open:
            return self._open[cloud]
        if cloud not in self._entries:
            known = ", ".join(self.names())
            raise NotSupportedError(f"not supported yet on {cloud}: this installation has providers for {known} only")
        try:
            manifest: Manifest = self._entries[cloud].load()
            opened = manifest.open(Settings(self._state_dir / cloud, lambda: self._config(cloud)))
        except ImportError as error:
            raise NotSupportedError(
                f"the provider for {cloud} cannot be loaded: {error}; "
                f"install it with: pip install 'altostratus[{cloud}]'"
            ) from error
        self._open[cloud] = opened
        return opened

    async def check(self, cloud: str) -> Access:
        """Whether the cloud can be used; a provider that cannot be loaded says why."""
        try:
            return await self.compute(cloud).check()
        except NotSupportedError as error:
            return Access(cloud, False, str(error))
