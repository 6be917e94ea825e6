"""Calls about users: who there is, what they may do, who I am."""

from dataclasses import replace

from sky.core.errors import PermissionDeniedError
from sky.core.model.users import Caller, Role, User, UserKind, check_user_name, read_role
from sky.core.policy import rights
from sky.core.policy.rights import Right
from sky.server.api import Api
from sky.server.asgi import Call, Reply, Route
from sky.server.passwords import check_password
from sky.server.rosters import Row, read_roster, write_roster
from sky.wire.clusters import user_hash
from sky.wire.codec import decode, encode
from sky.wire.openapi import Operation
from sky.wire.users import (
    DoneRecord,
    MeRecord,
    NewUserBody,
    PreferredBody,
    RosterBody,
    RosterRecord,
    UserBody,
    UserRecord,
    UsersBody,
    user_record,
)

#: Users that are changed by one call, and errors that its answer lists.
_MOST_AT_ONCE, _MOST_ERRORS = 1000, 100


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    calls = _Users(api)
    return [
        api.plain(
            Operation(
                "GET", "/users", "Users; oneself, for those who are no admin", answer=list[UserRecord], right=Right.READ
            ),
            calls.listing,
        ),
        api.plain(Operation("GET", "/users/role", "Who I am here", answer=MeRecord, right=Right.READ), calls.me),
        api.plain(
            Operation("GET", "/users/me/workspace", "Who I am, and where I work", answer=MeRecord, right=Right.READ),
            calls.me,
        ),
        api.plain(
            Operation(
                "POST",
                "/users/me/workspace",
                "Prefer a workspace",
                body=PreferredBody,
                answer=MeRecord,
                right=Right.USE,
            ),
            calls.prefer,
        ),
        api.plain(
            Operation(
                "POST", "/users/create", "Let somebody in", body=NewUserBody, answer=UserRecord, right=Right.ADMIN
            ),
            calls.create,
        ),
        api.plain(
            Operation(
                "POST",
                "/users/update",
                "Give a user another role, or shut them out",
                body=UserBody,
                answer=UserRecord,
                right=Right.ADMIN,
            ),
            calls.update,
        ),
        api.plain(
            Operation("POST", "/users/delete", "Forget a user and their tokens", body=UserBody, right=Right.ADMIN),
            calls.delete,
        ),
        *_several(api, calls),
    ]


def _several(api: Api, calls: "_Users") -> list[Route]:
    def post(path: str, summary: str, body: type) -> Operation:
        return Operation("POST", f"/users/{path}", summary, body=body, answer=DoneRecord, right=Right.ADMIN)

    export = Operation(
        "GET", "/users/export", "All users as a table", answer=RosterRecord, right=Right.ADMIN, audited=True
    )
    return [
        api.plain(post("batch_update", "Change several users", UsersBody), calls.update_several),
        api.plain(post("import", "Let in and change the users of a table", RosterBody), calls.import_),
        api.plain(export, calls.export),
    ]


class _Users:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._people = api.people

    async def listing(self, call: Call) -> Reply:
        everybody = await self._people.all()
        if not self._api.may.all_seeing(call.caller):
            everybody = [each for each in everybody if each.name == call.user]
        return Reply(encode([user_record(each) for each in everybody]))

    async def me(self, call: Call) -> Reply:
        return Reply(encode(await self._me(call.caller)))

    async def _me(self, caller: Caller) -> MeRecord:
        spaces = (await self._api.may.workspaces()).values()
        user = await self._people.find(caller.user)
        return MeRecord(
            id=user_hash(caller.user),
            name=caller.user,
            role=caller.role.value,
            via=caller.via.value,
            workspaces=[each.name for each in spaces if rights.enters(caller, each)],
            preferred=user.preferred if user else None,
            token_id=caller.token,
        )

    async def prefer(self, call: Call) -> Reply:
        body = decode(PreferredBody, await call.body())
        if body.preferred is not None:
            await self._api.may.workspace(call.caller, body.preferred)
        found = await self._people.find(call.user) or User(call.user, Role.USER, made_by="socket")
        wanted = replace(found, preferred=body.preferred)
        # Who comes over the socket need not be on record, nor the owner; somebody else who is not was just removed.
        if not await self._people.users.change(wanted) and (call.local or call.user == self._people.owner):
            await self._people.users.add(wanted)
        return Reply(encode(await self._me(call.caller)))

    async def create(self, call: Call) -> Reply:
        body = decode(NewUserBody, await call.body())
        name, role = check_user_name(body.username), read_role(body.role)
        made = User(name, role, created_at=self._people.now(), made_by=call.user)
        if body.password is not None:
            check_password(body.password)
        if await self._people.find(name) is not None or not await self._people.users.add(made):
            raise ValueError(f"There is a user {name!r} already.")
        if body.password is not None:
            await self._api.passwords.set(name, body.password, call.user)
        return Reply(encode(user_record(made)))

    async def update(self, call: Call) -> Reply:
        return Reply(encode(user_record(await self._update(call, decode(UserBody, await call.body())))))

    async def _update(self, call: Call, body: UserBody) -> User:
        name = await self._named(body)
        if body.password is not None:
            await self._api.passwords.set(await self._person(name), check_password(body.password), call.user)
        user = await self._people.find(name)
        if body.role is not None:
            user = await self._people.set_role(name, read_role(body.role))
        if body.disabled is not None:
            user = await self._people.set_disabled(name, body.disabled)
        if user is None:
            raise _nobody(name)
        return user

    async def update_several(self, call: Call) -> Reply:
        body = decode(UsersBody, await call.body())
        if len(body.updates) > _MOST_AT_ONCE:
            raise ValueError(f"updates: found {len(body.updates)}; allowed: at most {_MOST_AT_ONCE}")
        errors = []
        for each in body.updates:
            try:
                await self._update(call, each)
            except (ValueError, PermissionDeniedError) as refused:
                errors.append(f"{(each.user_name or each.user_id or '')[:80]}: {refused}")
        return _done(len(body.updates) - len(errors), errors)

    async def import_(self, call: Call) -> Reply:
        """Users of the table are made, or given the role and password that it says."""
        rows, errors = read_roster(decode(RosterBody, await call.body()).csv_content)
        done = 0
        for row in rows:
            try:
                made = User(row.name, row.role or Role.USER, created_at=self._people.now(), made_by=call.user)
                if not await self._people.users.add(made) and row.role is not None:
                    await self._people.set_role(row.name, row.role)
                if row.password:
                    await self._api.passwords.set(await self._person(row.name), row.password, call.user)
                done += 1
            except (ValueError, PermissionDeniedError) as refused:
                errors.append(f"{row.name}: {refused}")
        return _done(done, errors)

    async def export(self, call: Call) -> Reply:
        everybody = await self._people.users.all()
        people = [each for each in everybody if each.kind is UserKind.PERSON and each.name != self._people.owner]
        rows = [Row(each.name, await self._api.passwords.hash_of(each.name) or "", each.role) for each in people]
        return Reply(encode(RosterRecord(csv_content=write_roster(rows), user_count=len(rows))))

    async def _person(self, name: str) -> str:
        """The name, if it is one that may have a password. Raises PermissionDeniedError, ValueError."""
        if name == self._people.owner:
            # Whoever knew it would be the owner of this machine's account, in effect.
            raise PermissionDeniedError(
                f"{name!r} owns this server and comes by its socket or token, not by a password."
            )
        user = await self._people.find(name)
        if user is None:
            raise _nobody(name)
        if user.kind is UserKind.SERVICE:
            raise ValueError(f"{name!r} is a service account; it comes with its token only.")
        return name

    async def delete(self, call: Call) -> Reply:
        name = await self._named(decode(UserBody, await call.body()))
        living = [each.name for each in await self._api.plane.clusters(None, refresh=False) if each.user == name]
        if living:
            raise ValueError(
                f"{name} has clusters: {', '.join(living[:10])}. Take them down first (sky down), or shut the user "
                f"out: sky users disable {name}"
            )
        await self._people.remove(name)
        return Reply()

    async def _named(self, body: UserBody) -> str:
        for each in await self._people.all():
            if body.user_name == each.name or (body.user_name is None and body.user_id == user_hash(each.name)):
                return each.name
        raise _nobody(body.user_name or body.user_id or "")


def _done(count: int, errors: list[str]) -> Reply:
    message = f"{count} done" + (f", {len(errors)} not" if errors else "")
    return Reply(
        encode(DoneRecord(message=message, success_count=count, error_count=len(errors), errors=errors[:_MOST_ERRORS]))
    )


def _nobody(name: str) -> ValueError:
    return ValueError(f"There is no user {name[:80]!r}. `sky users list` shows who there is.")
