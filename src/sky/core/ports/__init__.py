"""The protocols through which the engine acts; adapters live in `store`, `providers`, `server`, and the sim.

Everything is asynchronous so that an adapter may wait; the SQLite store never does.
"""

from sky.core.ports.catalog import Catalog, Catalogs, PriceAsk, PriceSource, Reply, Web
from sky.core.ports.compute import (
    Access,
    ClonesDisks,
    Compute,
    CreateAsk,
    Identified,
    KeepsMachines,
    Keys,
    MachineReport,
    OpensPorts,
    Providers,
    Quotas,
    Regional,
    Stoppable,
    Unlocks,
)
from sky.core.ports.nodes import AgentClient, Fleet, LogPiece, Ran, Shell
from sky.core.ports.signals import Progress, Wakeups, Watch
from sky.core.ports.store import (
    Claim,
    ClusterRows,
    JobRows,
    LeaseLost,
    Letter,
    Outcomes,
    RequestRows,
    Rows,
    StandingOrder,
    Store,
    Stories,
)

__all__ = [
    "Access",
    "AgentClient",
    "Catalog",
    "Catalogs",
    "Claim",
    "ClonesDisks",
    "ClusterRows",
    "Compute",
    "CreateAsk",
    "Fleet",
    "Identified",
    "JobRows",
    "KeepsMachines",
    "Keys",
    "LeaseLost",
    "Letter",
    "LogPiece",
    "MachineReport",
    "OpensPorts",
    "Outcomes",
    "PriceAsk",
    "PriceSource",
    "Progress",
    "Providers",
    "Quotas",
    "Ran",
    "Regional",
    "Reply",
    "RequestRows",
    "Rows",
    "Shell",
    "StandingOrder",
    "Stoppable",
    "Store",
    "Stories",
    "Unlocks",
    "Wakeups",
    "Watch",
    "Web",
]
