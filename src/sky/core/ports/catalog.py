"""What places sell, and the way to newer prices. Adapters: `store.catalog`, `server.catalog`, `providers`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from sky.core.catalog.overrides import Overrides
from sky.core.model.catalog import (
    CloudSummary,
    Egress,
    InstanceType,
    Listing,
    Place,
    Quarantined,
    Query,
    Refreshed,
    Row,
    Source,
)
from sky.core.model.offers import Offer


class Catalog(Protocol):
    """One generation of what places sell, as `store.catalog` reads it. Questions are answered in line, not awaited."""

    @property
    def generation(self) -> str:
        """Its name, different for each content."""
        ...

    def offers(self, query: Query) -> Iterator[Offer]:
        """What has a price, cheapest first, found lazily: taking the first twenty costs about as much as the first."""
        ...

    def listings(self, query: Query) -> Iterator[Listing]:
        """One for each type and region, also without a price; by accelerator, count, price."""
        ...

    def types(self, name: str, cloud: str | None = None) -> list[InstanceType]:
        """The types of this name."""
        ...

    def type_names(self, cloud: str | None = None) -> Sequence[str]:
        """The names of all types, each once: what a misspelt one is compared with."""
        ...

    def places(self, cloud: str | None = None) -> list[Place]:
        """Regions and zones in which something is sold, by name."""
        ...

    def accelerators(self) -> Mapping[str, str]:
        """Every known spelling in lower case to the canonical name."""
        ...

    def egress(self) -> Sequence[Egress]: ...

    def sources(self) -> Sequence[Source]: ...

    def quarantined(self) -> Sequence[Quarantined]: ...

    def summary(self) -> Sequence[CloudSummary]:
        """What it holds of each cloud, by name."""
        ...


class Catalogs(Protocol):
    """The catalog as it is now, what the user lays over it, and the way to a newer one."""

    def current(self) -> Catalog:
        """The newest generation; cheap to ask for again. An empty one where there is none."""
        ...

    def overrides(self) -> Overrides:
        """The user's own prices, places, reservations and refusals, as the files are now.

        Raises InvalidSkyPilotConfigError with the file and the place in it.
        """
        ...

    def refreshable(self) -> Sequence[str]:
        """Clouds that have something to be asked for prices."""
        ...

    async def refresh(
        self,
        clouds: Sequence[str] | None,
        if_older_s: float | None,
        say: Callable[[str], None],
        *,
        accept: bool = False,
    ) -> Sequence[Refreshed]:
        """Ask for new prices of some clouds (None: of all that can be asked), side by side, and swap them in.

        Clouds whose prices are younger than `if_older_s` seconds are left alone. One cloud's failure is its own.
        `accept`: take also what differs too much from the prices before.
        """
        ...


class Reply(Protocol):
    """An answer to a `Web.get`, read as a stream; leaving the context closes it."""

    @property
    def unchanged(self) -> bool:
        """The server says that the document is the one that was known."""
        ...

    @property
    def etag(self) -> str | None: ...

    @property
    def last_modified(self) -> str | None: ...

    def lines(self) -> Iterator[str]:
        """Lines of text, decoded, without their ends; gzip is undone."""
        ...

    def json(self) -> object:
        """The whole document, within the bound on its size."""
        ...

    def __enter__(self) -> "Reply": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Web(Protocol):
    """Asks the world outside on behalf of a price source: bounded in size and time, conditional where it can be."""

    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        known: Source | None = None,
        at_most: int = 64 * 2**20,
    ) -> Reply:
        """GET, or POST where there is a `body`. `at_most` bytes, counted after decompression.

        Raises ProviderDown, Throttled, CredentialsRejected or RequestInvalid, with the URL and what was said.
        """
        ...


@dataclass(frozen=True, slots=True)
class PriceAsk:
    """What a price source is asked with: the time, the documents known from last time by URL, its configuration.

    `config` is the section of the cloud in the user's configuration; `endpoint` under it replaces the public one.
    """

    now: float
    known: Mapping[str, Source] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)


class PriceSource(Protocol):
    """What a provider's manifest names for prices: called in a thread of its own, streams rows as they are read.

    Raises the `ProviderFailure`s of `core.errors`; rows that were yielded before then count for nothing.
    """

    def __call__(self, web: Web, ask: PriceAsk) -> Iterator[Row]: ...
