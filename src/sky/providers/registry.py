"""Finds providers by entry point (group `sky.providers`); `server.assembly` opens it once.

A provider that cannot be loaded is unavailable with a reason, never an import error for everybody.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from sky.core.errors import NotSupportedError
from sky.core.model.clusters import Cluster
from sky.core.model.place_rules import PlaceRules
from sky.core.model.schema import Locator, nearest
from sky.core.ports import Access, Closes, Compute, Keys, PriceSource, Shell, Unlocks
from sky.providers import credentials
from sky.providers.traced import traced

#: Features of the interface that a place may have or lack.
FEATURES = frozenset(
    [
        "stop",
        "autostop",
        "autodown",
        "multi_node",
        "spot",
        "ports",
        "docker",
        "image",
        "disk_tier",
        "network_tier",
        "mounts",
        "controllers",
        "clone_disk",
        "local_disk",
    ]
)


#: Takes a text, what messages call it and its kind. Raises InvalidSkyPilotConfigError with file, line and column.
ReadYaml = Callable[[bytes, str, str], tuple[object, Locator]]
#: The living clusters, from the store.
Living = Callable[[], Awaitable[Sequence[Cluster]]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a provider is opened with: its own folder for state, and its section of the configuration as it is now.

    `installation` marks what this installation makes, so that it never takes another's machines for its own. `keys`
    makes what SSH takes. `environment` and `home` are where credentials are looked for. `shell` runs commands on
    machines that are there already. `read_yaml` reads a text of the user's: its data, and what says where in the file a
    path of it stands (the reader is the wire's, which providers do not know). `clusters` are the living clusters of all
    places, as they are on record.
    """

    state_dir: Path
    config: Callable[[], Mapping[str, object]]
    installation: Callable[[], str] = str
    keys: Keys | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    home: Path = field(default_factory=Path.home)
    shell: Shell | None = None
    read_yaml: ReadYaml | None = None
    clusters: Living | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A provider without its SDK: loadable in microseconds.

    `factory` is `module:function` taking `Settings`, empty where machines cannot be rented yet. `prices` is
    `module:function`, a `core.ports.PriceSource`, empty where there is none. `capabilities` are what this version can
    do there.

    `credentials` are where a user's credentials are found, any of them: `env:NAME`, `env-file:NAME` (a variable that
    names a file), `file:~/path`, or `file:~/path#word` where only a line that sets a key beginning with the word shows
    them. `fix` are the steps of a user without them. `offered` are the features of the interface that the place has, of
    `FEATURES`; `None` where that is not known. `rules` are what it wants of labels and images.
    """

    name: str
    title: str
    capabilities: tuple[str, ...] = ()
    factory: str = ""
    fix: tuple[str, ...] = ()
    prices: str = ""
    credentials: tuple[str, ...] = ()
    offered: frozenset[str] | None = None
    rules: PlaceRules = field(default_factory=PlaceRules)

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

    def __init__(
        self,
        state_dir: Path,
        config: Callable[[str], Mapping[str, object]],
        environment: Mapping[str, str] | None = None,
        home: Path | None = None,
        *,
        installation: Callable[[], str] = str,
        keys: Keys | None = None,
        shell: Callable[[str], Shell] | None = None,
        read_yaml: ReadYaml | None = None,
        clusters: Living | None = None,
    ) -> None:
        """`environment` and `home` are where credentials are looked for; without them, those of this process.

        `shell` gives a cloud its way to run commands on machines.
        """
        self._shell = shell
        self._read_yaml = read_yaml
        self._clusters = clusters
        self._installation = installation
        self._keys = keys
        self._state_dir = state_dir
        self._config = config
        self._environment = os.environ if environment is None else environment
        self._home = home
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
            meant = nearest(cloud, self.places())
            ask = f" (did you mean {meant}?)" if meant else ""
            here = ", ".join(self.places())
            raise NotSupportedError(
                f"not supported yet on {cloud}{ask}: this installation has providers for {here} only"
            )
        made = self._loaded(cloud)
        if isinstance(made, ImportError):
            raise _not_loadable(cloud, made)
        return made

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
            opened = manifest.open(
                Settings(
                    self._state_dir / cloud,
                    lambda: self._config(cloud),
                    self._installation,
                    self._keys,
                    self._environment,
                    self._home or Path.home(),
                    self._shell(cloud) if self._shell is not None else None,
                    self._read_yaml,
                    self._clusters,
                )
            )
        except ImportError as error:
            raise _not_loadable(cloud, error) from error
        self._open[cloud] = traced(cloud, opened)
        return opened

    def secret(self, cloud: str, name: str) -> str | None:
        """A secret that reaching a node of this cloud takes, by the name in its `reach`; None if there is none."""
        compute = self.compute(cloud)
        return compute.secret(name) if isinstance(compute, Unlocks) else None

    def offered(self, cloud: str) -> frozenset[str] | None:
        """The features that a place is known to have; `None` where nothing is known. Raises NotSupportedError."""
        return self.manifest(cloud).offered

    def likely(self, cloud: str) -> bool:
        """Whether anything says that the place is used: credentials or settings are there, or it takes none."""
        known = self.manifest(cloud).credentials
        there = credentials.found(known, self._environment, self._home or Path.home()) if known else "none taken"
        return there is not None or bool(self._config(cloud))

    async def close(self) -> None:
        """Let go of what the open providers hold."""
        for compute in self._open.values():
            if isinstance(compute, Closes):
                await compute.close()

    def rules(self, cloud: str) -> PlaceRules:
        """What a place wants of labels and images; nothing where nothing is known."""
        return self.manifest(cloud).rules if cloud in self._entries else PlaceRules()

    async def check(self, cloud: str) -> Access:
        """Whether the cloud can be used; a provider that cannot be loaded says why. Raises nothing."""
        try:
            manifest = self.manifest(cloud)
            if (left_out := self._left_out(cloud)) is not None:
                return left_out
            if not manifest.factory:
                return self._check_credentials(manifest)
            if cloud not in self._open:
                # A cloud's library takes up to a second to load, and nobody else waits for that.
                with suppress(ImportError):
                    await asyncio.to_thread(import_module, manifest.factory.partition(":")[0])
            return await self.compute(cloud).check()
        except NotSupportedError as error:
            return Access(cloud, False, str(error))

    def _left_out(self, cloud: str) -> Access | None:
        """What the configuration says of a place that is not to be used, though it could be; None for all others."""
        settings = self._config(cloud)
        if settings.get("disabled") is True:
            return Access(cloud, False, f"{cloud}.disabled is set in the configuration", f"remove {cloud}.disabled")
        uses = settings.get("capabilities")
        if isinstance(uses, list | tuple) and "compute" not in uses:
            reason = f"{cloud}.capabilities of the configuration does not name 'compute'"
            return Access(cloud, False, reason, f"add compute to {cloud}.capabilities")
        return None

    def _check_credentials(self, manifest: Manifest) -> Access:
        """What is known of a place where machines cannot be rented yet: whether the user could."""
        where = credentials.found(manifest.credentials, self._environment, self._home or Path.home())
        if where is not None:
            reason = f"credentials found in {where}; this version cannot rent machines there yet"
            return Access(manifest.name, False, reason, credentials=True)
        reason = f"no credentials: looked in {credentials.looked(manifest.credentials)}"
        steps = "\n".join(f"{number}. {step}" for number, step in enumerate(manifest.fix, 1))
        return Access(manifest.name, False, reason, steps, credentials=False)


def _not_loadable(cloud: str, error: ImportError) -> NotSupportedError:
    return NotSupportedError(
        f"the provider for {cloud} cannot be loaded: {error}; install it with: pip install 'altostratus[{cloud}]'"
    )
