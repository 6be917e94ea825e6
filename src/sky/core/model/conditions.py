"""What the user holds beyond list prices: machines that are paid for already, and how many may be had at all.

Read from the user's overrides by `core.catalog.overrides`; the optimizer counts against both.
"""

from dataclasses import dataclass

from sky.core.model.catalog import Market


@dataclass(frozen=True, slots=True)
class Reservation:
    """`count` machines of one type that are paid for already, wherever `region` or `zone` (None: any) allow.

    `source` says where the user wrote it, as `file:line` or `file#number`.
    """

    cloud: str
    region: str | None
    zone: str | None
    instance_type: str
    count: int
    source: str


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that may be had at one time: `max_nodes` machines, `max_cpus` vCPUs, or both; `None` is no bound.

    `instance_type` is a pattern in which `*`, `?` and `[…]` match as in file names; the machines of all types that
    match count together. `market` is `None` where both count. `region` is `None` for the whole cloud.
    """

    cloud: str
    region: str | None
    instance_type: str
    market: Market | None
    max_nodes: int | None
    max_cpus: float | None
    source: str
