"""Users, tokens and workspaces; written by the routes of users, read for every call that comes over TCP.

Of a token only the hash of its secret part is here. Whoever reads the database cannot pass for anybody. Nothing is
written over what another server wrote in between: what is new is added, what is there is changed where it still is.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, insert, or_, select, update

from sky.core.model.users import Role, Token, TokenKind, User, UserKind
from sky.store.database import Conflict, Database, settle
from sky.store.schema import TOKENS, USERS, WORKSPACES
from sky.store.statements import Prepared

_U = USERS.c
_USER = select(_U.name, _U.role, _U.kind, _U.created_at, _U.made_by, _U.preferred, _U.disabled)
_GET = Prepared(_USER.where(_U.name == bindparam("wanted")))
_ALL = Prepared(_USER.order_by(_U.name))
_ADD = Prepared(insert(USERS))
_CHANGE = Prepared(
    update(USERS)
    .where(_U.name == bindparam("wanted"))
    .values({each: bindparam(each) for each in ("role", "kind", "made_by", "preferred", "disabled")})
)
_REMOVE = Prepared(delete(USERS).where(_U.name == bindparam("wanted")))

_T = TOKENS.c
_COLUMNS = (
    "id", "kind", "user_name", "name", "hash", "created_at", "made_by", "role", "workspaces", "expires_at",
    "lifetime_s", "renew_until", "used_at", "revoked_at",
)  # fmt: skip
_TOKENS = select(*(_T[each] for each in _COLUMNS))
_NEWEST_FIRST = _TOKENS.order_by(_T.created_at.desc(), _T.id)
_GET_TOKEN = Prepared(_TOKENS.where(_T.id == bindparam("wanted")))
_ALL_TOKENS = Prepared(_NEWEST_FIRST)
_TOKENS_OF = Prepared(_NEWEST_FIRST.where(_T.user_name == bindparam("wanted")))
_ADD_TOKEN = Prepared(insert(TOKENS))
#: What may become of a token; that it was used is noted beside, and what was revoked stays so.
_CHANGED = ("user_name", "role", "workspaces", "expires_at", "lifetime_s", "renew_until", "revoked_at")
_CHANGE_TOKEN = Prepared(
    update(TOKENS)
    .where(_T.id == bindparam("wanted"), _T.revoked_at.is_(None))
    .values({each: bindparam(each) for each in _CHANGED})
)
_USED = Prepared(update(TOKENS).where(_T.id == bindparam("wanted")).values(used_at=bindparam("at")))
_REMOVE_TOKENS = Prepared(delete(TOKENS).where(_T.user_name == bindparam("wanted")))
_SWEEP = Prepared(delete(TOKENS).where(or_(_T.expires_at < bindparam("before"), _T.revoked_at < bindparam("before"))))

_W = WORKSPACES.c
_WORKSPACES = Prepared(select(_W.name, _W.doc).order_by(_W.name))
_ADD_WORKSPACE = Prepared(insert(WORKSPACES))
_CHANGE_WORKSPACE = Prepared(update(WORKSPACES).where(_W.name == bindparam("wanted")).values(doc=bindparam("doc")))
_REMOVE_WORKSPACE = Prepared(delete(WORKSPACES).where(_W.name == bindparam("wanted")))


class SqlUsers:
    """See `core.ports.Users`."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._changes = 0

    @property
    def revision(self) -> int:
        """Grows with every change that this process made."""
        return self._changes

    async def get(self, name: str) -> User | None:
        """A user by name."""
        async with self._db.read() as tx:
            row = await tx.first(_GET, wanted=name)
        return None if row is None else _user(row)

    async def all(self) -> list[User]:
        """All users by name."""
        async with self._db.read() as tx:
            return [_user(row) for row in await tx.all(_ALL)]

    async def add(self, user: User) -> bool:
        """Record a user, unless the name is taken."""
        return await self._added(_ADD, name=user.name, created_at=user.created_at, **_facts(user))

    async def change(self, user: User) -> bool:
        """Change a user who is on record."""
        return await self._changed(_CHANGE, wanted=user.name, **_facts(user)) > 0

    async def remove(self, name: str) -> bool:
        """Forget a user and all of their tokens."""
        async with self._db.write() as tx:
            await tx.change(_REMOVE_TOKENS, wanted=name)
            gone = await tx.change(_REMOVE, wanted=name)
        self._changes += 1
        return gone > 0

    async def token(self, id: str) -> Token | None:
        """A token by its id."""
        async with self._db.read() as tx:
            row = await tx.first(_GET_TOKEN, wanted=id)
        return None if row is None else _token(row)

    async def tokens(self, user: str | None = None) -> list[Token]:
        """Tokens, newest first."""
        async with self._db.read() as tx:
            rows = await tx.all(_ALL_TOKENS) if user is None else await tx.all(_TOKENS_OF, wanted=user)
        return [_token(row) for row in rows]

    async def add_token(self, token: Token) -> bool:
        """Record a token, unless there is one of the id."""
        return await self._added(_ADD_TOKEN, **_columns(token))

    async def change_token(self, token: Token) -> bool:
        """Change a token that is on record and was not revoked."""
        told = _columns(token)
        return await self._changed(_CHANGE_TOKEN, wanted=token.id, **{each: told[each] for each in _CHANGED}) > 0

    async def used(self, id: str, at: float) -> None:
        """Note when a token was last used."""
        async with self._db.write() as tx:
            await tx.change(_USED, wanted=id, at=at)

    async def sweep(self, before: float) -> int:
        """Delete tokens that ran out or were revoked before a time."""
        return await self._changed(_SWEEP, before=before)

    async def workspaces(self) -> Mapping[str, Mapping[str, object]]:
        """Workspaces that were made here."""
        async with self._db.read() as tx:
            rows = await tx.all(_WORKSPACES)
        return {name: json.loads(doc) for name, doc in rows}

    async def put_workspace(self, name: str, config: Mapping[str, object] | None) -> None:
        """Record a workspace, or forget it."""
        if config is None:
            await self._changed(_REMOVE_WORKSPACE, wanted=name)
            return
        doc = json.dumps(dict(config))

        async def work() -> None:
            async with self._db.write() as tx:
                if not await tx.change(_CHANGE_WORKSPACE, wanted=name, doc=doc):
                    await tx.change(_ADD_WORKSPACE, name=name, doc=doc)

        await settle(work)
        self._changes += 1

    async def _added(self, statement: Prepared, **values: object) -> bool:
        try:
            return await self._changed(statement, **values) > 0
        except Conflict:
            return False

    async def _changed(self, statement: Prepared, **values: object) -> int:
        async with self._db.write() as tx:
            count = await tx.change(statement, **values)
        self._changes += 1
        return count


def _user(row: Sequence[Any]) -> User:
    name, role, kind, created_at, made_by, preferred, disabled = row
    return User(name, Role(role), UserKind(kind), created_at, made_by, preferred, bool(disabled))


def _facts(user: User) -> dict[str, object]:
    return {
        "role": user.role.value,
        "kind": user.kind.value,
        "made_by": user.made_by,
        "preferred": user.preferred,
        "disabled": user.disabled,
    }


def _token(row: Sequence[Any]) -> Token:
    told = dict(zip(_COLUMNS, row, strict=True))
    told["user"] = told.pop("user_name")
    told["kind"] = TokenKind(told["kind"])
    told["role"] = None if told["role"] is None else Role(told["role"])
    told["workspaces"] = None if told["workspaces"] is None else tuple(json.loads(told["workspaces"]))
    return Token(**told)


def _columns(token: Token) -> dict[str, object]:
    return {
        "id": token.id,
        "kind": token.kind.value,
        "user_name": token.user,
        "name": token.name,
        "hash": token.hash,
        "created_at": token.created_at,
        "made_by": token.made_by,
        "role": None if token.role is None else token.role.value,
        "workspaces": None if token.workspaces is None else json.dumps(token.workspaces),
        "expires_at": token.expires_at,
        "lifetime_s": token.lifetime_s,
        "renew_until": token.renew_until,
        "used_at": token.used_at,
        "revoked_at": token.revoked_at,
    }
