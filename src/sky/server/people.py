"""Who is known to this server: its owner, users on record, and those whom a login or a proxy vouches for.

Called by the gate for every call over TCP, and by the routes of users.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from sky.core.errors import ApiServerAuthenticationError, PermissionDeniedError
from sky.core.model.users import Role, Token, User, UserKind, check_user_name, lesser, read_role
from sky.core.ports import Users
from sky.kit.clock import Clock

#: Seconds between two notes of when a token was used: not every call is worth a write.
_NOTED_S = 60.0
#: Seconds for which it is not asked again whom a token stands for, and how many are known at a time.
_GOOD_FOR_S = 1.0
_MOST_KEPT = 10_000


class People:
    """See the module. `owner` is an admin whatever is on record."""

    def __init__(self, users: Users, clock: Clock, owner: str, section: Callable[[str], Mapping[str, object]]) -> None:
        self.users = users
        self.owner = owner
        self._clock = clock
        self._section = section
        self._noted: dict[str, float] = {}
        self._kept: dict[str, tuple[int, float, tuple[Token, User | None]]] = {}

    @property
    def newcomers_role(self) -> Role:
        """The role of users who appear for the first time: `rbac.default_role`, or `user`."""
        said = self._section("rbac").get("default_role")
        return Role.USER if said is None else read_role(str(said))

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.now()

    async def find(self, name: str) -> User | None:
        """A user as on record; the owner is always there."""
        found = await self.users.get(name)
        if name == self.owner:
            return replace(found or User(name, Role.ADMIN, made_by="this machine"), role=Role.ADMIN, disabled=False)
        return found

    async def all(self) -> list[User]:
        """Everybody, by name."""
        found = {user.name: user for user in await self.users.all()}
        me = await self.find(self.owner)
        assert me is not None
        return [user for _, user in sorted({**found, self.owner: me}.items())]

    async def active(self, name: str) -> User:
        """A user who may come in. Raises ApiServerAuthenticationError."""
        return active(await self.find(name))

    async def came(self, name: str, by: str, role: Role | None = None) -> User:
        """Somebody whom a login or a proxy vouches for; recorded when they come for the first time.

        `role` is what their groups say; it replaces what is on record. Raises ApiServerAuthenticationError for a name
        that cannot be one, or that is the owner's, a service account's, or disabled.
        """
        try:
            check_user_name(name)
        except ValueError as wrong:
            raise ApiServerAuthenticationError(f"The login gave no usable name: {wrong}") from None
        if name == self.owner:
            # Whoever gives out names there could make anybody this server's owner.
            raise ApiServerAuthenticationError(f"{name!r} is the owner of this server; a login cannot take that name.")
        found = await self.find(name)
        if found is None:
            found = User(name, role or self.newcomers_role, created_at=self._clock.now(), made_by=by)
            if not await self.users.add(found):
                # They came to another server in this very moment.
                found = await self.active(name)
        if found.kind is UserKind.SERVICE:
            raise ApiServerAuthenticationError(f"{name!r} is a service account; it comes with its token only.")
        if found.disabled:
            raise ApiServerAuthenticationError(f"The user {name!r} is disabled here.")
        if role is not None and role is not found.role:
            found = replace(found, role=role)
            await self.users.change(found)
        return found

    async def behind(self, id: str) -> tuple[Token, User | None] | None:
        """A token by its id, and the user whom it stands for; None for one that is not there.

        What was found is good for a second, or until this process changes anything: a token that is revoked elsewhere
        opens nothing a second later.
        """
        now, revision = self._clock.now(), self.users.revision
        kept = self._kept.get(id)
        if kept is not None and kept[0] == revision and 0 <= now - kept[1] <= _GOOD_FOR_S:
            return kept[2]
        token = await self.users.token(id)
        if token is None:
            return None
        found = (token, await self.find(token.user))
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[id] = (revision, now, found)
        return found

    async def revoke(self, token: Token) -> None:
        """Let a token open nothing any more."""
        await self.users.change_token(replace(token, revoked_at=self._clock.now()))

    async def noted(self, token: Token) -> None:
        """Note that a token is used."""
        now = self._clock.now()
        last = self._noted.get(token.id, token.used_at)
        if last is None or now - last > _NOTED_S:
            if len(self._noted) >= _MOST_KEPT:
                self._noted.clear()
            self._noted[token.id] = now
            await self.users.used(token.id, now)

    async def set_role(self, name: str, role: Role) -> User:
        """Give a user another role; accounts that they made may not do more. Raises what hinders it."""
        user = await self._changeable(name)
        changed = replace(user, role=role)
        await self.users.change(changed)
        for each in await self.users.all():
            if each.made_by == name and lesser(each.role, role) is not each.role:
                await self.users.change(replace(each, role=role))
        return changed

    async def set_disabled(self, name: str, disabled: bool) -> User:
        """Shut a user out, or let them in again; so too the accounts that they made."""
        changed = replace(await self._changeable(name), disabled=disabled)
        await self.users.change(changed)
        for each in await self.users.all():
            if each.made_by == name and each.kind is UserKind.SERVICE:
                await self.users.change(replace(each, disabled=disabled))
        return changed

    async def remove(self, name: str) -> None:
        """Forget a user, their tokens, and the accounts that they made."""
        await self._changeable(name)
        for each in await self.users.all():
            if each.made_by == name and each.kind is UserKind.SERVICE:
                await self.users.remove(each.name)
        await self.users.remove(name)

    async def _changeable(self, name: str) -> User:
        if name == self.owner:
            raise PermissionDeniedError(f"{name!r} owns this server and is always its admin.")
        found = await self.users.get(name)
        if found is None:
            raise ValueError(f"There is no user {name[:80]!r}. `sky users list` shows who there is.")
        return found


def active(user: User | None) -> User:
    """The user, if they may come in. Raises ApiServerAuthenticationError."""
    if user is None or user.disabled:
        raise ApiServerAuthenticationError("The user of this login is not known here any more, or was disabled.")
    return user
