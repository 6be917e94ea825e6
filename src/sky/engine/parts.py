"""What a control plane is made of; `server.assembly` and the simulated world bring it together, `plane` takes it apart.

All that reaches outside comes in here: whoever reads this sees everything that the engine can touch.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from sky.core.ports import Catalogs, Fleet, Providers, Store
from sky.engine.access import AccessBoard
from sky.engine.catalog import CatalogCare
from sky.engine.desk import Talk
from sky.engine.duties import Duties
from sky.engine.grants import Grants
from sky.engine.managed_logs import ManagedLogs
from sky.engine.notifications import Courier
from sky.engine.plans import Planner
from sky.engine.retention import Retention
from sky.engine.upkeep import NewKey
from sky.kit.clock import Clock
from sky.kit.signals import Signals


def nothing_set(place: str) -> Mapping[str, object]:
    """A section of a configuration in which nothing stands."""
    return {}


@dataclass(frozen=True, slots=True)
class Parts:
    """See the module.

    `section` gives a section of the configuration as it is now, `configuration` all of it. `closing` is called at the
    end. `works` is whether what is recorded is driven here, and not by other servers on the same store alone; without
    `duties` this server is the only one. `new_key` makes another key for what is sealed. `boot` names the run of the
    system where a power failure may take back the last of what is recorded (`engine.forgotten`).
    """

    store: Store
    providers: Providers
    fleet: Fleet
    clock: Clock
    signals: Signals
    talk: Talk
    catalogs: Catalogs
    access: AccessBoard
    planner: Planner
    section: Callable[[str], Mapping[str, object]] = nothing_set
    configuration: Callable[[], Mapping[str, object]] = dict
    closing: Sequence[Callable[[], Awaitable[None]]] = ()
    retention: Retention | None = None
    care: CatalogCare | None = None
    duties: Duties | None = None
    works: bool = True
    new_key: NewKey | None = None
    managed_logs: ManagedLogs | None = None
    courier: Courier | None = None
    grants: Grants | None = None
    boot: str = ""
