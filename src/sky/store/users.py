"""Users, tokens and workspaces; written by the routes of users, read for every call that comes over TCP.

Of a token only the hash of its secret part is here. Whoever reads the database cannot pass for anybody.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, or_, select, update

from sky.core.model.users import Role, Token, TokenKind, User, UserKind
from sky.store.database import Database
from sky.store.schema import TOKENS, USERS, WORKSPACES


class SqlUsers:
    """See `core.ports.Users`."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._changes = 0

    @property
    def revision(self) -> int:
        """Changes when this process changed anything."""
        return self._changes

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._db.write() as connection:
            yield connection
        self._changes += 1

    async def get(self, name: str) -> User | None:
        """A user by name."""
        with self._db.read() as connection:
            row = connection.execute(select(USERS).where(USERS.c.name == name)).mappings().first()
        return None if row is None else _user(row)

    async def all(self) -> list[User]:
        """All users by name."""
        with self._db.read() as connection:
            rows = connection.execute(select(USERS).order_by(USERS.c.name)).mappings().all()
        return [_user(row) for row in rows]

    async def put(self, user: User) -> None:
        """Record a user, in place of what is on record."""
        with self._write() as connection:
            connection.execute(delete(USERS).where(USERS.c.name == user.name))
            connection.execute(
                insert(USERS).values(
                    name=user.name,
                    role=user.role.value,
                    kind=user.kind.value,
                    created_at=user.created_at,
                    made_by=user.made_by,
                    preferred=user.preferred,
                    disabled=user.disabled,
                )
            )

    async def remove(self, name: str) -> bool:
        """Forget a user and all of their tokens."""
        with self._write() as connection:
            connection.execute(delete(TOKENS).where(TOKENS.c.user_name == name))
            return connection.execute(delete(USERS).where(USERS.c.name == name)).rowcount > 0

    async def token(self, id: str) -> Token | None:
        """A token by its id."""
        with self._db.read() as connection:
            row = connection.execute(select(TOKENS).where(TOKENS.c.id == id)).mappings().first()
        return None if row is None else _token(row)

    async def tokens(self, user: str | None = None) -> list[Token]:
        """Tokens, newest first."""
        found = select(TOKENS).order_by(TOKENS.c.created_at.desc(), TOKENS.c.id)
        if user is not None:
            found = found.where(TOKENS.c.user_name == user)
        with self._db.read() as connection:
            return [_token(row) for row in connection.execute(found).mappings().all()]

    async def put_token(self, token: Token) -> None:
        """Record a token, in place of what is on record under its id."""
        with self._write() as connection:
            connection.execute(delete(TOKENS).where(TOKENS.c.id == token.id))
            connection.execute(insert(TOKENS).values(**_columns(token)))

    async def used(self, id: str, at: float) -> None:
        """Note when a token was last used."""
        with self._db.write() as connection:
            connection.execute(update(TOKENS).where(TOKENS.c.id == id).values(used_at=at))

    async def sweep(self, before: float) -> int:
        """Delete tokens that ran out or were revoked before a time."""
        c = TOKENS.c
        with self._write() as connection:
            return connection.execute(delete(TOKENS).where(or_(c.expires_at < before, c.revoked_at < before))).rowcount

    async def workspaces(self) -> Mapping[str, Mapping[str, object]]:
        """Workspaces that were made here."""
        with self._db.read() as connection:
            rows = connection.execute(select(WORKSPACES).order_by(WORKSPACES.c.name)).mappings().all()
        return {row["name"]: json.loads(row["doc"]) for row in rows}

    async def put_workspace(self, name: str, config: Mapping[str, object] | None) -> None:
        """Record a workspace, or forget it."""
        with self._write() as connection:
            connection.execute(delete(WORKSPACES).where(WORKSPACES.c.name == name))
            if config is not None:
                connection.execute(insert(WORKSPACES).values(name=name, doc=json.dumps(dict(config))))


def _user(row: RowMapping) -> User:
    told = dict(row)
    return User(**{**told, "role": Role(told["role"]), "kind": UserKind(told["kind"])})


def _token(row: RowMapping) -> Token:
    told: dict[str, Any] = dict(row)
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
