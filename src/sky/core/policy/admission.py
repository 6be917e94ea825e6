"""Which waiting managed jobs may begin: a plain function of who waits and of what is under way.

Called by `engine.admission`. Those who wait come in the order of their turn, which priority and time of waiting make
up (`ManagedJob.turn`): so it is first in, first out among equals, and nobody waits for ever.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many may be launching, and how many begun and not ended: of all, of one user, of one workspace."""

    launching: int = 500
    alive: int = 20_000
    alive_per_user: int = 20_000
    alive_per_workspace: int = 20_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """One that waits."""

    id: str
    user: str
    workspace: str


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What has begun and not ended: how many are launching, and how many there are by user and by workspace."""

    launching: int = 0
    users: Mapping[str, int] = field(default_factory=dict)
    workspaces: Mapping[str, int] = field(default_factory=dict)

    @property
    def alive(self) -> int:
        """All of them."""
        return sum(self.users.values())


def admitted(waiting: Iterable[Waiting], now: UnderWay, bounds: Bounds) -> list[str]:
    """Ids of those that may begin, in the order of their turn; who has reached a limit of their own is passed over."""
    users, workspaces = Counter(now.users), Counter(now.workspaces)
    room = min(bounds.launching - now.launching, bounds.alive - now.alive)
    chosen: list[str] = []
    for each in waiting:
        if len(chosen) >= room:
            break
        if users[each.user] >= bounds.alive_per_user or workspaces[each.workspace] >= bounds.alive_per_workspace:
            continue
        users[each.user] += 1
        workspaces[each.workspace] += 1
        chosen.append(each.id)
    return chosen


def why_no_worker(pool: str, ready: int, busy: int, before: int) -> str:
    """Why one that waits for a worker of a pool has none yet, in words."""
    if ready <= 0:
        return f"the pool {pool} has no worker that is ready; {before} wait before it"
    return f"all {busy} of {ready} workers of the pool {pool} are taken; {before} wait before it"


def why_waiting(one: Waiting, before: int, now: UnderWay, bounds: Bounds) -> str:
    """Why one is not begun yet, in words; `before` are those whose turn is earlier."""
    if now.users.get(one.user, 0) >= bounds.alive_per_user:
        return f"{one.user} has {now.users[one.user]} managed jobs under way, which is the limit for one user"
    if now.workspaces.get(one.workspace, 0) >= bounds.alive_per_workspace:
        return f"the workspace {one.workspace} has {now.workspaces[one.workspace]} under way, which is its limit"
    if now.alive >= bounds.alive:
        return f"{now.alive} managed jobs are under way, which is the limit; {before} wait before it"
    if now.launching >= bounds.launching:
        return f"{now.launching} managed jobs are being launched, which is the limit; {before} wait before it"
    return f"its turn comes at once; {before} wait before it"
