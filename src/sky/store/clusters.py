"""Rows of clusters; at most one living cluster has a name."""

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import bindparam, select

from sky.core.lifecycle.billing import booked
from sky.core.lifecycle.clusters import EVENTS, ORDERS
from sky.core.lifecycle.machine import Step
from sky.core.model.clusters import Cluster
from sky.core.ports import Claim
from sky.kit.frozen import replace
from sky.store.database import Database, Transaction
from sky.store.documents import Document
from sky.store.leases import LeasedRows
from sky.store.ledger import book
from sky.store.schema import ALIVE, CLUSTERS
from sky.store.sealing import Sealer
from sky.store.statements import Among, Prepared

#: Fields that hold what a user says, secrets among it.
SEALED = ("task_config", "resources_config", "layers")

_T = CLUSTERS.c
_NEWEST_FIRST = select(_T.doc).order_by(_T.created_at.desc())
_VERSION = Prepared(select(_T.version).where(_T.id == bindparam("wanted")))
_BY_NAME = Prepared(select(_T.doc).where(ALIVE, _T.name == bindparam("wanted")))
_BY_REQUEST = Prepared(_NEWEST_FIRST.where(_T.request_id == bindparam("wanted")).limit(1))
_LIVING = Prepared(select(_T.id, _T.version).where(ALIVE).order_by(_T.created_at.desc()))
_LIVING_OF = Prepared(select(_T.id, _T.version).where(ALIVE, Among(_T.id, "ids")))
_OWNED_BY = Prepared(select(_T.id, _T.version).where(ALIVE, _T.owner == bindparam("wanted")))
_DOCS = Prepared(select(_T.id, _T.doc).where(Among(_T.id, "ids")))
_ENDED = Prepared(_NEWEST_FIRST.where(_T.ended_at > bindparam("later")))


class SqlClusters(LeasedRows[Cluster]):
    """See `core.ports.ClusterRows`."""

    noun = "cluster"

    def __init__(self, database: Database, sealer: Sealer | None = None) -> None:
        super().__init__(database, CLUSTERS, Document(Cluster, SEALED, sealer), EVENTS, ORDERS)
        #: The living as they were read last, by id: what has not changed since need not be opened and decoded again.
        #: `living` drops what lives no more.
        self._read: dict[str, Cluster] = {}

    def columns(self, entity: Cluster) -> Mapping[str, object]:
        return {
            "name": entity.name,
            "phase": entity.phase.value,
            "living": entity.alive,
            "request_id": entity.request_id,
            "created_at": entity.created_at,
            "ended_at": entity.ended_at,
            "owner": entity.owner,
        }

    def label(self, entity: Cluster) -> str:
        return entity.name

    def status(self, entity: Cluster) -> str:
        return entity.phase.value

    async def beside(self, tx: Transaction, before: Cluster | None, after: Cluster, now: float) -> None:
        """What begins or ends to cost money is on record together with the step that made it so, or neither is."""
        if after.entered:
            await book(tx, booked(before if before is not None and before.entered else None, after, now))

    async def commit(
        self,
        claim: Claim[Cluster],
        step: Step[Cluster],
        event: object,
        *,
        now: float,
        due_at: float | None,
        letters: Iterable[int] = (),
        done: str | None = None,
    ) -> Claim[Cluster]:
        """See `LeasedRows`. A cluster from before there was a ledger is entered with its first commit."""
        entered = step if step.entity.entered else replace(step, entity=replace(step.entity, entered=True))
        return await super().commit(claim, entered, event, now=now, due_at=due_at, letters=letters, done=done)

    async def open(self, step: Step[Cluster], now: float) -> tuple[Cluster, bool]:
        """Record a cluster, unless a living one has its name."""
        return await self._open(step, now, _BY_NAME, wanted=step.entity.name)

    def remember(self, entity: Cluster, doc: str) -> None:
        """See `LeasedRows`; and whoever asks for all living ones need not read it either."""
        super().remember(entity, doc)
        if entity.alive:
            self._read[entity.id] = entity
        else:
            self._read.pop(entity.id, None)

    async def get(self, id: str) -> Cluster | None:
        """The cluster of this id; one that has not changed since it was read is the same object, not another copy."""
        known = self._read.get(id)
        if known is not None:
            async with self._db.read() as tx:
                if await tx.scalar(_VERSION, wanted=id) == known.version:
                    return known
        found = await super().get(id)
        if found is not None and found.alive:
            self._read[id] = found
        return found

    async def by_name(self, name: str) -> Cluster | None:
        """The living cluster of this name."""
        return await self._one(_BY_NAME, wanted=name)

    async def by_request(self, request_id: str) -> Cluster | None:
        """The newest cluster that this request opened."""
        return await self._one(_BY_REQUEST, wanted=request_id)

    async def living(self) -> list[Cluster]:
        """All living clusters, newest first."""
        self._read = {each.id: each for each in await self._current(_LIVING)}
        return [each for each in self._read.values() if each.alive]

    async def living_of(self, ids: Collection[str]) -> list[Cluster]:
        """Those among them that live, in no order."""
        found = [each for each in await self._current(_LIVING_OF, ids=list(ids)) if each.alive]
        self._read |= {each.id: each for each in found}
        return found

    async def owned_by(self, owner: str) -> list[Cluster]:
        """Those that live and were made for this owner, in no order."""
        return [each for each in await self._current(_OWNED_BY, wanted=owner) if each.alive]

    async def _current(self, statement: Prepared, **values: object) -> list[Cluster]:
        """Clusters by their ids and versions: what is known already is not read again."""
        known = self._read
        async with self._db.read() as tx:
            rows = await tx.all(statement, **values)
            changed = [id for id, version in rows if id not in known or known[id].version != version]
            fresh = await tx.all(_DOCS, ids=changed) if changed else ()
        found = {id: self._document.load(doc) for id, doc in fresh}
        # One that was forgotten between the two questions is in neither.
        return [found.get(id) or known[id] for id, _ in rows if id in found or id in known]

    async def since(self, ended_after: float) -> list[Cluster]:
        """Living ones and those that ended later than `ended_after`, newest first."""
        living = await self.living()
        known = {each.id for each in living}
        ended = [each for each in await self._many(_ENDED, later=ended_after) if each.id not in known]
        return sorted((*living, *ended), key=lambda each: each.created_at, reverse=True)
