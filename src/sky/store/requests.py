"""Rows of requests; an id is recorded once, so that a client may send it again."""

from collections.abc import Mapping

from sqlalchemy import bindparam, case, func, literal, literal_column, or_, select

from sky.core.lifecycle.machine import Step
from sky.core.lifecycle.requests import EVENTS, ORDERS, opening
from sky.core.model.requests import LASTING, Request
from sky.store.database import Database
from sky.store.documents import Document
from sky.store.leases import LONGEST_NAME, LeasedRows
from sky.store.schema import REQUESTS
from sky.store.sealing import Sealer
from sky.store.statements import Prepared

_OPEN = ("PENDING", "WAITING", "RUNNING")
#: The limit of a question that has none.
_ALL = 2**31 - 1

#: Fields that hold what a user says, secrets among it.
SEALED = ("body",)

_T = REQUESTS.c
_KNOWN = Prepared(select(_T.doc).where(_T.id == bindparam("wanted")))
#: Everything from the prefix on to before what begins otherwise, by the code points of the ids: an index finds these.
_BEGINS = Prepared(
    select(_T.doc)
    .where(_T.id >= bindparam("prefix"), _T.id < bindparam("prefix") + literal("\U0010ffff"))
    .order_by(_T.created_at.desc())
    .limit(10)
)
_NEWEST = select(_T.doc).order_by(_T.created_at.desc()).limit(bindparam("most"))
_UNENDED = _NEWEST.where(or_(*(_T.status == each for each in _OPEN)))
#: Until it ends an order stands, and with it the row is due or held: an index finds these.
_COUNT = Prepared(select(func.count()).select_from(REQUESTS).where(_T.due_at.is_not(None)))
_OF_CLUSTER = _T.cluster_name == bindparam("cluster")
#: By whether ended ones are wanted too, and only those of one cluster.
_RECENT = {
    (True, False): Prepared(_NEWEST),
    (False, False): Prepared(_UNENDED),
    (True, True): Prepared(_NEWEST.where(_OF_CLUSTER)),
    (False, True): Prepared(_UNENDED.where(_OF_CLUSTER)),
}


class SqlRequests(LeasedRows[Request]):
    """See `core.ports.RequestRows`."""

    noun = "request"
    # However many launches are due, what is short is not behind them.
    first = case((_T.name.in_([literal_column(f"'{name}'") for name in sorted(LASTING)]), 1), else_=0)

    def __init__(self, database: Database, sealer: Sealer | None = None) -> None:
        super().__init__(database, REQUESTS, Document(Request, SEALED, sealer), EVENTS, ORDERS)

    def columns(self, entity: Request) -> Mapping[str, object]:
        return {
            "name": entity.name,
            "cluster_name": entity.cluster_name and entity.cluster_name[:LONGEST_NAME],
            "status": entity.status.value,
            "created_at": entity.created_at,
            "finished_at": entity.finished_at,
        }

    def label(self, entity: Request) -> str:
        return entity.cluster_name or entity.name

    def status(self, entity: Request) -> str:
        return entity.status.value

    async def open(self, request: Request, now: float) -> tuple[Request, bool]:
        """Record a request, unless its id is on record."""
        step: Step[Request] = opening(request)
        return await self._open(step, now, _KNOWN, wanted=request.id)

    async def unended(self) -> int:
        """How many have not ended."""
        async with self._db.read() as tx:
            return int(await tx.scalar(_COUNT))

    async def find(self, prefix: str) -> list[Request]:
        """Requests whose id begins with `prefix`, at most ten."""
        return await self._many(_BEGINS, prefix=prefix)

    async def recent(self, *, finished: bool, cluster_name: str | None, limit: int | None) -> list[Request]:
        """The newest requests; without `finished`, only open ones."""
        statement = _RECENT[finished, cluster_name is not None]
        return await self._many(statement, cluster=cluster_name, most=_ALL if limit is None else limit)
