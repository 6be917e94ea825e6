"""Messages about pools of machines. Used by the server's routes."""

from collections.abc import Iterable

from sky.core.model.infra import Infra
from sky.core.ports import MachineReport
from sky.wire.codec import Body, Record


def pool_of(infra: str | None) -> str | None:
    """The pool that `ssh/pool`, `ssh` or just `pool` names; None for all. Raises ValueError for another place."""
    if not infra or infra == "ssh":
        return None
    if "/" not in infra:
        return infra
    place = Infra.parse(infra)
    if place.cloud != "ssh":
        raise ValueError(f"found the infra '{infra[:60]}'; allowed: a pool, as ssh/my-pool or my-pool")
    return place.region


class PoolsUpBody(Body):
    """Arguments of `/ssh_up`: a pool or `ssh/pool` (None: all); `pools` is a text that defines pools, if given.

    That text may hold passwords, which is why this call leaves no record.
    """

    infra: str | None = None
    pools: str | None = None

    def __post_init__(self) -> None:
        """Refuse what names no pool."""
        self.infra = pool_of(self.infra)


class PoolsDownBody(Body):
    """Arguments of `/ssh_down`; `force` also while clusters use the pool."""

    infra: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        """Refuse what names no pool."""
        self.infra = pool_of(self.infra)


class MachineRecord(Record):
    """A machine of a pool; memory in GiB. `state` is up, silent or wrong; `detail` says why."""

    pool: str
    machine: str
    state: str
    detail: str
    cpus: float
    free_cpus: float
    memory_gb: float
    free_memory_gb: float
    accelerators: dict[str, float]
    free_accelerators: dict[str, float]
    holders: list[str]


def machine_records(reports: Iterable[MachineReport]) -> list[MachineRecord]:
    """Reports as they are told."""
    return [
        MachineRecord(
            pool=each.pool,
            machine=each.machine,
            state=each.state,
            detail=each.detail,
            cpus=each.cpus,
            free_cpus=each.free_cpus,
            memory_gb=each.memory_gb,
            free_memory_gb=each.free_memory_gb,
            accelerators=dict(each.accelerators),
            free_accelerators=dict(each.free_accelerators),
            holders=list(each.holders),
        )
        for each in reports
    ]
