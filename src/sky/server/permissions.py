"""Whose things a call may see and change. Called by the routes, once the gate has let a caller in.

What somebody may not see is answered as if it were not there. What they see and may not change is refused with the
name of whom to ask.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from sky.core.errors import ClusterDoesNotExist, PermissionDeniedError, PoolDoesNotExistError
from sky.core.model.clusters import Cluster
from sky.core.model.ledger import Line
from sky.core.model.managed_jobs import ManagedJob
from sky.core.model.pools import Pool
from sky.core.model.requests import Request
from sky.core.model.users import Caller
from sky.core.model.workspaces import DEFAULT, Workspace
from sky.core.policy import rights
from sky.core.policy.rights import Reach
from sky.core.ports import JobQuery
from sky.server.plane import ControlPlane


class Scope(NamedTuple):
    """Where a request works, and whose things it may touch there."""

    workspace: str
    reach: Reach


class Permissions:
    """See the module."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def workspaces(self) -> Mapping[str, Workspace]:
        """All workspaces."""
        return await self._plane.workspaces.all()

    async def workspace(self, caller: Caller, asked: str | None, *, to_see: bool = False) -> Workspace:
        """The workspace that a call is about: to work in, or only to see what is there.

        Raises NoWorkspaceAccessError, WorkspaceAmbiguousError.
        """
        spaces = await self.workspaces()
        open_to = rights.sees if to_see else rights.enters
        if asked is None and len(spaces) == 1:
            return rights.choose(caller, spaces, None, None, open_to)
        user = await self._plane.users.get(caller.user)
        return rights.choose(caller, spaces, asked, user.preferred if user else None, open_to)

    def infra(self, caller: Caller, workspace: Workspace) -> Workspace:
        """The workspace with the infra that the caller may use in it."""
        return rights.infra_for(rights.reach(caller, workspace), workspace)

    # --- clusters ------------------------------------------------------------------------------------------------

    async def to_see(self, caller: Caller, name: str) -> Cluster | None:
        """The living cluster of this name, None if there is none. Raises ClusterDoesNotExist if it is not shown."""
        cluster = await self._plane.named(name)
        if cluster is not None and not _shown(caller, cluster.user, await self._of(cluster)):
            raise _absent(name)
        return cluster

    async def to_change(self, caller: Caller, name: str) -> Cluster | None:
        """The living cluster of this name, None if there is none.

        Raises ClusterDoesNotExist if it is not shown to the caller, PermissionDeniedError if it is not theirs.
        """
        cluster = await self.to_see(caller, name)
        if cluster is not None and not rights.acts(caller, cluster.user, await self._of(cluster)):
            raise PermissionDeniedError(
                f"Cluster '{name}' is {cluster.user}'s, in the workspace '{cluster.workspace}': only they and admins "
                "may change it."
            )
        return cluster

    async def shown(
        self, caller: Caller, clusters: Iterable[Cluster], *, everybody: bool = True, named: Iterable[str] = ()
    ) -> list[Cluster]:
        """Those of the clusters that the caller may see; only their own and those `named`, unless `everybody`'s."""
        spaces = await self.workspaces()
        literal = set(named)
        return [
            each
            for each in clusters
            if (everybody or each.user == caller.user or each.name in literal)
            and _shown(caller, each.user, _space(spaces, each.workspace))
        ]

    async def lines(self, caller: Caller, lines: Iterable[Line]) -> list[Line]:
        """Those lines of the ledger that the caller may see: as with clusters."""
        spaces = await self.workspaces()
        return [each for each in lines if _shown(caller, each.entry.owner, _space(spaces, each.entry.workspace))]

    async def for_request(self, caller: Caller, name: str, body: Mapping[str, object]) -> Scope:
        """Where a request works. Raises what forbids it."""
        cluster_name = body.get("cluster_name")
        if name == "chaos" and str(cluster_name).isdecimal():
            # No cluster is called like that: it is a managed job's number.
            return await self._to_cancel(caller, {"job_ids": [int(str(cluster_name))]})
        other = body.get("clone_disk_from")
        if other:
            await self.to_change(caller, str(other))
        if cluster_name:
            try:
                cluster = await self.to_change(caller, str(cluster_name))
            except ClusterDoesNotExist:
                if name != "launch":
                    raise
                raise PermissionDeniedError(f"The name '{cluster_name}' is taken; choose another.") from None
            if cluster is not None:
                return Scope(cluster.workspace, rights.reach(caller, await self._of(cluster)))
        if name in ("launch", "jobs/launch", "jobs/pool_apply"):
            found = await self.workspace(caller, asked_workspace(body))
            return Scope(found.name, rights.reach(caller, found))
        if name == "jobs/pool_down" or (name == "jobs/cancel" and body.get("pool")):
            return await self._of_pools(caller, body)
        if name == "jobs/cancel":
            return await self._to_cancel(caller, body)
        # The cluster is not there, or there is none: the request says so itself, in the words that everybody gets.
        return Scope(DEFAULT, rights.reach(caller, await self._plane.workspaces.get(DEFAULT)))

    # --- managed jobs --------------------------------------------------------------------------------------------

    async def managed_job(self, caller: Caller, number: int) -> ManagedJob | None:
        """The job of this number; None if there is none that is shown to the caller."""
        job = await self._plane.managed.by_number(number)
        if job is None:
            return None
        return job if _shown(caller, job.user, await self._plane.workspaces.get(job.workspace)) else None

    async def to_list(self, caller: Caller, query: JobQuery) -> JobQuery:
        """The question, asked of nothing that the caller may not see."""
        if self.all_seeing(caller):
            return query
        spaces = (await self.workspaces()).values()
        if query.users == [caller.user]:
            open_to = [each.name for each in spaces if rights.looks(caller, caller.user, each)]
        else:
            open_to = [each.name for each in spaces if rights.sees(caller, each)]
        return replace(query, workspaces=open_to)

    async def _to_cancel(self, caller: Caller, body: Mapping[str, object]) -> Scope:
        """Where jobs are to be ended: in the workspace of those that are named, else in the caller's."""
        numbers = body.get("job_ids")
        for number in numbers if isinstance(numbers, list) else ():
            job = await self.managed_job(caller, int(number))
            if job is None:
                raise no_managed_job(int(number))
            space = await self._plane.workspaces.get(job.workspace)
            if not rights.acts(caller, job.user, space):
                raise PermissionDeniedError(
                    f"Managed job {number} is {job.user}'s, in the workspace '{job.workspace}': only they and admins "
                    "may end it."
                )
            return Scope(job.workspace, rights.reach(caller, space))
        found = await self.workspace(caller, None)
        return Scope(found.name, rights.reach(caller, found))

    # --- pools ---------------------------------------------------------------------------------------------------

    async def pools(self, caller: Caller) -> list[Pool]:
        """The pools that the caller may see, by name."""
        spaces = await self.workspaces()
        living = await self._plane.pools.living()
        return [each for each in living if _shown(caller, each.user, _space(spaces, each.workspace))]

    async def pool(self, caller: Caller, name: str) -> Pool:
        """The pool of this name. Raises PoolDoesNotExistError if it is not shown to the caller."""
        pool = await self._plane.pools.by_name(name)
        if pool is None or not _shown(caller, pool.user, await self._plane.workspaces.get(pool.workspace)):
            raise PoolDoesNotExistError(f"Pool '{name[:80]}' not found. `sky jobs pool status` lists those that exist.")
        return pool

    async def _of_pools(self, caller: Caller, body: Mapping[str, object]) -> Scope:
        """Where pools, or jobs of a pool, are to be ended: in the workspace of the first that is named."""
        names = body.get("names")
        first = str(names[0]) if isinstance(names, list) and names else body.get("pool")
        found = next((each for each in await self.pools(caller) if each.name == first), None)
        space = await (self._plane.workspaces.get(found.workspace) if found else self.workspace(caller, None))
        return Scope(space.name, rights.reach(caller, space))

    # --- requests ------------------------------------------------------------------------------------------------

    async def request(self, caller: Caller, prefix: str, *, change: bool = False) -> Request:
        """The request whose id begins so. Raises ValueError for one that is not there or not theirs to read."""
        try:
            found = await self._plane.find_request(prefix)
        except ValueError:
            if self.all_seeing(caller):
                raise
            # How the ids of others begin is nobody's business.
            raise _no_request(prefix) from None
        if not (await self._may(caller, found, change=change)):
            raise _no_request(prefix)
        return found

    async def requests(self, caller: Caller, found: Iterable[Request], *, change: bool = False) -> list[Request]:
        """Those of the requests that the caller may read, or call off."""
        return [each for each in found if await self._may(caller, each, change=change)]

    async def _may(self, caller: Caller, request: Request, *, change: bool) -> bool:
        if self.all_seeing(caller):
            return True
        space = await self._plane.workspaces.get(request.workspace)
        judge = rights.acts if change else rights.looks
        return judge(caller, request.user, space)

    def all_seeing(self, caller: Caller) -> bool:
        """Whether nothing is hidden from the caller."""
        return rights.reach(caller, Workspace(DEFAULT)) is Reach.ALL

    async def _of(self, cluster: Cluster) -> Workspace:
        return await self._plane.workspaces.get(cluster.workspace)


def asked_workspace(body: Mapping[str, object]) -> str | None:
    """The workspace that a launch names: in its task's `config`, or in the client's layers."""
    task = body.get("task")
    dag = body.get("dag")
    if isinstance(dag, Mapping) and dag.get("tasks"):
        task = dag["tasks"][0]
    within = task.get("config") if isinstance(task, Mapping) else None
    for layer in (within, body.get("config")):
        if isinstance(layer, Mapping) and layer.get("active_workspace"):
            return str(layer["active_workspace"])
    return None


def _shown(caller: Caller, owner: str, workspace: Workspace) -> bool:
    return rights.sees(caller, workspace) or rights.looks(caller, owner, workspace)


def _space(spaces: Mapping[str, Workspace], name: str) -> Workspace:
    """A workspace by name; one that is no more shows what was in it to nobody but its owner and admins."""
    return spaces.get(name) or Workspace(name, private=True)


def _absent(name: str) -> ClusterDoesNotExist:
    return ClusterDoesNotExist(f"Cluster '{name}' not found. `sky status` lists those that exist.")


def no_managed_job(number: int) -> ValueError:
    """For one that there is not, or not for the caller."""
    return ValueError(f"Managed job {number} not found. `sky jobs queue -a` lists those on record.")


def _no_request(prefix: str) -> ValueError:
    return ValueError(f"Request '{prefix}' not found. `sky api status -a` lists those on record.")
