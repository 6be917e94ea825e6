"""Calls about tokens: service accounts and their tokens, and the renewal and end of any token.

A service account is a user of its own, made together with its token and gone with it. It may do no more than whoever
made it.
"""

from dataclasses import replace

from sky.core.errors import ApiServerAuthenticationError, PermissionDeniedError
from sky.core.model.users import Caller, Role, Token, TokenKind, User, UserKind, check_user_name, lesser, read_role
from sky.core.policy.rights import Right
from sky.server import tokens
from sky.server.api import Api
from sky.server.asgi import Call, Reply, Route
from sky.wire.codec import decode, encode
from sky.wire.openapi import Operation
from sky.wire.users import DAYS, NewAccountBody, NewTokenRecord, TokenBody, TokenRecord, token_record

_HOME = "/users/service-account-tokens"
#: What the names of service accounts begin with.
PREFIX = "sa-"
#: Tokens that one user may have at a time.
MOST_TOKENS = 200


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    calls = _Tokens(api)

    def post(path: str, summary: str, body: type, answer: object, right: Right = Right.USE) -> Operation:
        return Operation("POST", path, summary, body=body, answer=answer, right=right)

    return [
        api.plain(
            Operation(
                "GET", _HOME, "Tokens: one's own, and all for admins", answer=list[TokenRecord], right=Right.READ
            ),
            calls.listing,
        ),
        api.plain(post(_HOME, "Make a service account and its token", NewAccountBody, NewTokenRecord), calls.create),
        api.plain(post(f"{_HOME}/delete", "End a token", TokenBody, None), calls.delete),
        api.plain(
            Operation(
                "POST",
                f"{_HOME}/get-role",
                "What a token may do",
                body=TokenBody,
                answer=TokenRecord,
                right=Right.READ,
            ),
            calls.get,
        ),
        api.plain(post(f"{_HOME}/update-role", "Give a token another role", TokenBody, TokenRecord), calls.set_role),
        api.plain(
            post(f"{_HOME}/rotate", "Put a new token in a token's place", TokenBody, NewTokenRecord), calls.rotate
        ),
        api.plain(
            Operation(
                "POST",
                "/users/tokens/renew",
                "Give the token that this call is made with a new life",
                answer=TokenRecord,
                right=Right.READ,
                audited=True,
            ),
            calls.renew,
        ),
        api.plain(
            Operation(
                "POST",
                "/users/tokens/end",
                "End the token that this call is made with",
                right=Right.READ,
                audited=True,
            ),
            calls.end,
        ),
    ]


class _Tokens:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._people = api.people
        self._users = api.people.users

    async def listing(self, call: Call) -> Reply:
        everything = self._api.may.all_seeing(call.caller)
        found = [
            await self._told(each)
            for each in await self._users.tokens()
            if each.kind in (TokenKind.ACCOUNT, TokenKind.LOGIN, TokenKind.SESSION)
            and (everything or call.user in (each.user, each.made_by))
        ]
        return Reply(encode(found))

    async def create(self, call: Call) -> Reply:
        body = decode(NewAccountBody, await call.body())
        caller = await self._as_of_now(call.caller)
        role = lesser(caller.role, Role.USER) if body.role is None else read_role(body.role)
        self._check_role(caller, role)
        scope = await self._scope(caller, body.workspaces)
        name = check_user_name(PREFIX + body.token_name.removeprefix(PREFIX))
        if await self._people.find(name) is not None:
            raise _taken(name)
        made = [each for each in await self._users.tokens() if each.made_by == caller.user]
        if len(made) >= MOST_TOKENS:
            raise ValueError(f"{caller.user} has {len(made)} tokens; end some first: sky users token list")
        now, days = self._people.now(), DAYS if body.expires_in_days is None else body.expires_in_days
        if not await self._users.add(User(name, role, UserKind.SERVICE, now, caller.user)):
            raise _taken(name)
        text, token = tokens.mint(
            TokenKind.ACCOUNT,
            name,
            body.token_name,
            now,
            made_by=caller.user,
            workspaces=scope,
            lifetime_s=days * tokens.DAY_S or None,
            renew_until=None if body.renewable else now + days * tokens.DAY_S,
        )
        await self._users.add_token(token)
        return Reply(encode(_new(text, token, role)))

    async def get(self, call: Call) -> Reply:
        return Reply(encode(await self._told(await self._own(call, decode(TokenBody, await call.body())))))

    async def delete(self, call: Call) -> Reply:
        token = await self._own(call, decode(TokenBody, await call.body()))
        await self._end(token)
        return Reply()

    async def set_role(self, call: Call) -> Reply:
        body = decode(TokenBody, await call.body())
        token = await self._own(call, body)
        role = read_role(body.role or "")
        self._check_role(call.caller, role)
        if token.kind is TokenKind.ACCOUNT:
            user = await self._people.active(token.user)
            await self._users.change(replace(user, role=role))
        token = replace(token, role=role)
        await self._change(token)
        return Reply(encode(await self._told(token)))

    async def rotate(self, call: Call) -> Reply:
        body = decode(TokenBody, await call.body())
        old = await self._own(call, body)
        if old.kind is not TokenKind.ACCOUNT:
            raise ValueError("Only tokens of service accounts are rotated; `sky api login` makes a new login.")
        user = await self._people.active(old.user)
        self._check_role(call.caller, lesser(user.role, old.role))
        now = self._people.now()
        life = old.lifetime_s if body.expires_in_days is None else body.expires_in_days * tokens.DAY_S or None
        text, token = tokens.mint(
            TokenKind.ACCOUNT,
            old.user,
            old.name,
            now,
            made_by=old.made_by,
            role=old.role,
            workspaces=old.workspaces,
            lifetime_s=life,
            renew_until=None if old.renew_until is None or life is None else now + life,
        )
        await self._change(replace(old, revoked_at=now))
        await self._users.add_token(token)
        return Reply(encode(_new(text, token, lesser(user.role, token.role))))

    async def renew(self, call: Call) -> Reply:
        token = await self._this(call)
        token = tokens.renewed(token, self._people.now())
        await self._change(token)
        return Reply(encode(await self._told(token)))

    async def end(self, call: Call) -> Reply:
        token = await self._this(call)
        if token.kind is TokenKind.ACCOUNT:
            raise ValueError("The token of a service account is ended by whoever made it: sky users token delete")
        await self._change(replace(token, revoked_at=self._people.now()))
        return Reply()

    # --- parts ---------------------------------------------------------------------------------------------------

    async def _as_of_now(self, caller: Caller) -> Caller:
        """The caller as on record at this moment: what is made now must not outlive a right that was just taken away.

        Raises ApiServerAuthenticationError for one who may not come in any more.
        """
        if caller.token is None:
            return caller
        token = await self._users.token(caller.token)
        user = await self._people.active(caller.user)
        if token is None or not token.good(self._people.now()):
            raise ApiServerAuthenticationError("The token of this call was ended.")
        return replace(caller, role=lesser(lesser(caller.role, user.role), token.role))

    async def _this(self, call: Call) -> Token:
        token = await self._users.token(call.caller.token) if call.caller.token else None
        if token is None:
            raise ApiServerAuthenticationError("This call is not made with a token that could be renewed or ended.")
        return token

    async def _own(self, call: Call, body: TokenBody) -> Token:
        """The token, if it is the caller's to deal with: they made it, it stands for them, or they are an admin."""
        found = await self._users.token(body.token_id)
        if found is None or not (self._api.may.all_seeing(call.caller) or call.user in (found.user, found.made_by)):
            raise ValueError(f"There is no token {body.token_id[:40]!r} of yours. `sky users token list` shows them.")
        return found

    async def _end(self, token: Token) -> None:
        if token.kind is TokenKind.ACCOUNT:
            others = [each for each in await self._users.tokens(token.user) if each.id != token.id]
            if not any(each.good(self._people.now()) for each in others):
                await self._users.remove(token.user)
                return
        await self._users.change_token(replace(token, revoked_at=self._people.now()))

    async def _change(self, token: Token) -> None:
        """Change a token. Raises ValueError for one that another call ended in the meantime."""
        if not await self._users.change_token(token):
            raise ValueError(f"The token {token.id} was ended before.")

    async def _told(self, token: Token) -> TokenRecord:
        user = await self._people.find(token.user)
        return token_record(token, lesser(user.role, token.role).value if user else "none")

    def _check_role(self, caller: Caller, role: Role) -> None:
        if lesser(role, caller.role) is not role:
            raise PermissionDeniedError(
                f"{caller.user} is {caller.role.value} here and cannot give away the role {role.value}."
            )

    async def _scope(self, caller: Caller, asked: list[str] | None) -> tuple[str, ...] | None:
        """The workspaces of a new token: those asked for, all of which the caller may enter."""
        if asked is None:
            return None if caller.workspaces is None else tuple(sorted(caller.workspaces))
        for name in asked:
            await self._api.may.workspace(caller, name)
        return tuple(dict.fromkeys(asked))


def _taken(name: str) -> ValueError:
    return ValueError(f"There is a service account {name!r} already; `sky users token rotate` renews its token.")


def _new(text: str, token: Token, role: Role) -> NewTokenRecord:
    return NewTokenRecord(
        token_id=token.id, token=text, user_name=token.user, role=role.value, expires_at=token.expires_at
    )
