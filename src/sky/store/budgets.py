"""Budgets, what was promised against them, and what was spent by the ledger. Read and written by `engine.budgets`.

Promises are made under a lock on the budgets, so that two servers never promise the same money.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import and_, bindparam, case, delete, func, insert, or_, select, update

from sky.core.errors import BudgetExceededError
from sky.core.model.budgets import Budget, Reservation, Spending, Standing, Whose
from sky.core.model.managed_jobs import OWNED
from sky.core.policy import budgets as policy
from sky.store.database import Database, Transaction, settle
from sky.store.schema import BUDGETS, CLUSTERS, LEDGER, MANAGED_JOBS, RESERVATIONS
from sky.store.statements import Among, Prepared

_B, _R, _L = BUDGETS.c, RESERVATIONS.c, LEDGER.c
#: Seconds after which a promise to what was never recorded is void.
_STALE_S = 600.0
_ALL = Prepared(select(_B.doc).order_by(_B.name))
_LOCKED = Prepared(select(_B.doc).order_by(_B.name).with_for_update())
_ADD = Prepared(insert(BUDGETS))
_CHANGE = Prepared(update(BUDGETS).where(_B.name == bindparam("wanted")).values(doc=bindparam("doc")))
_REMOVE = Prepared(delete(BUDGETS).where(_B.name == bindparam("wanted")))

_UNTIL = func.coalesce(_L.ended, bindparam("at"))
_FROM = case((_L.began > bindparam("since"), _L.began), else_=bindparam("since"))
_COST = func.sum(case((_UNTIL > _FROM, _UNTIL - _FROM), else_=0.0) / 3600.0 * _L.price_hourly)
_IN_TIME = or_(_L.ended.is_(None), _L.ended > bindparam("since"))
_SPENT = Prepared(
    select(_L.owner, _L.workspace, _L.labels, _COST)
    .where(_IN_TIME)
    .group_by(_L.owner, _L.workspace, _L.labels)
)  # fmt: skip
_SPENT_BY = Prepared(
    select(_L.origin, _COST).where(Among(_L.origin, "origins"), _IN_TIME).group_by(_L.origin)
)  # fmt: skip
_RESERVED = Prepared(
    select(_R.id, _R.request_id, _R.owner, _R.workspace, _R.labels, _R.amount, _R.created_at).order_by(_R.created_at)
)
_SINCE = case((_L.began > _R.created_at, _L.began), else_=_R.created_at)
#: What was spent of each promise since it was made.
_USED = Prepared(
    select(_R.id, func.sum(case((_UNTIL > _SINCE, _UNTIL - _SINCE), else_=0.0) / 3600.0 * _L.price_hourly))
    .select_from(RESERVATIONS.join(LEDGER, _L.origin == _R.id))
    .group_by(_R.id)
)
_RESERVE = Prepared(insert(RESERVATIONS))
_DROP_OF = Prepared(delete(RESERVATIONS).where(_R.request_id == bindparam("wanted")))
_DROP = Prepared(delete(RESERVATIONS).where(Among(_R.id, "ids")))
_OVER = Prepared(
    select(_R.id)
    .select_from(
        RESERVATIONS.outerjoin(MANAGED_JOBS, _R.id == OWNED + MANAGED_JOBS.c.id).outerjoin(
            CLUSTERS, CLUSTERS.c.id == _R.id
        )
    )
    .where(
        or_(
            MANAGED_JOBS.c.ended_at.is_not(None),
            and_(CLUSTERS.c.id.is_not(None), ~CLUSTERS.c.living),
            and_(MANAGED_JOBS.c.id.is_(None), CLUSTERS.c.id.is_(None), _R.created_at < bindparam("before")),
        )
    )
)
_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Budget).decode


class SqlBudgets:
    """See `core.ports.BudgetRows`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put(self, budget: Budget) -> None:
        """Record a budget, in the place of one of its name."""

        async def work() -> None:
            async with self._db.write() as tx:
                doc = _encode(budget).decode()
                if not await tx.change(_CHANGE, wanted=budget.name, doc=doc):
                    await tx.change(_ADD, name=budget.name, doc=doc)

        await settle(work)

    async def remove(self, name: str) -> bool:
        """Forget a budget; whether there was one."""
        async with self._db.write() as tx:
            return await tx.change(_REMOVE, wanted=name) == 1

    async def all(self) -> list[Budget]:
        """By name."""
        async with self._db.read() as tx:
            return [_decode(doc) for (doc,) in await tx.all(_ALL)]

    async def standings(self, now: float) -> list[Standing]:
        """How every budget stands."""
        async with self._db.read() as tx:
            budgets = [_decode(doc) for (doc,) in await tx.all(_ALL)]
            return await _standings(tx, budgets, now)

    async def spent_by(self, origins: Iterable[str], now: float, since: float = 0.0) -> Mapping[str, float]:
        """USD that each of these has cost since a time; those that cost nothing are left out."""
        async with self._db.read() as tx:
            rows = await tx.all(_SPENT_BY, origins=sorted(origins), at=now, since=since)
        return {origin: float(cost or 0.0) for origin, cost in rows}

    async def reserve(self, wanted: Sequence[Reservation], now: float) -> None:
        """Promise all of these, or none: raises BudgetExceededError. What the request was promised before is void."""

        async def work() -> None:
            async with self._db.write() as tx:
                budgets = [_decode(doc) for (doc,) in await tx.all(_LOCKED)]
                if not budgets:
                    return
                for request_id in {each.request_id for each in wanted}:
                    await tx.change(_DROP_OF, wanted=request_id)
                # One that begins again is promised anew.
                await tx.change(_DROP, ids=[each.id for each in wanted])
                standings = await _standings(tx, budgets, now)
                why = policy.refusal(standings, [(each.whose, each.amount) for each in wanted])
                if why is not None:
                    raise BudgetExceededError(
                        f"Nothing was begun: {why}. `sky budget list` shows all budgets; who has set this one may "
                        "raise it."
                    )
                for each in wanted:
                    await tx.change(
                        _RESERVE, id=each.id, request_id=each.request_id, owner=each.whose.owner,
                        workspace=each.whose.workspace, labels=_labels(each.whose), amount=each.amount, created_at=now,
                    )  # fmt: skip

        await settle(work)

    async def release(self, ids: Iterable[str]) -> None:
        """Nothing is promised to these any more."""
        async with self._db.write() as tx:
            await tx.change(_DROP, ids=sorted(ids))

    async def tidy(self, now: float) -> None:
        """Forget promises to what has ended, or never was."""
        async with self._db.write() as tx:
            over = [id for (id,) in await tx.all(_OVER, before=now - _STALE_S)]
            if over:
                await tx.change(_DROP, ids=over)


def _labels(whose: Whose) -> str:
    return msgspec.json.encode(dict(sorted(whose.labels.items()))).decode() if whose.labels else ""


async def _standings(tx: Transaction, budgets: Sequence[Budget], now: float) -> list[Standing]:
    if not budgets:
        return []
    reserved = await _reserved(tx, now)
    spent: dict[float, list[Spending]] = {}
    told = []
    for budget in budgets:
        begin, _ = policy.window(budget, now)
        if budget.origin:
            rows = await tx.all(_SPENT_BY, origins=[budget.origin], at=now, since=begin)
            mine = [Spending(Whose("", "", {}, origin), float(cost or 0.0)) for origin, cost in rows]
            told.append(policy.standing(budget, mine, reserved, now))
            continue
        if begin not in spent:
            rows = await tx.all(_SPENT, at=now, since=begin)
            spent[begin] = [
                Spending(Whose(owner, workspace, policy.labels_in(labels)), float(cost or 0.0))
                for owner, workspace, labels, cost in rows
            ]
        told.append(policy.standing(budget, spent[begin], reserved, now))
    return told


async def _reserved(tx: Transaction, now: float) -> list[Reservation]:
    rows = await tx.all(_RESERVED)
    if not rows:
        return []
    used = {str(id): float(cost or 0.0) for id, cost in await tx.all(_USED, at=now)}
    return [
        Reservation(id, request, Whose(owner, space, policy.labels_in(labels), id), amount, made, used.get(id, 0.0))
        for id, request, owner, space, labels, amount, made in rows
    ]
