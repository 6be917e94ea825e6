"""Calls about workspaces: which there are, make, change and remove them, and who works in them."""

from collections.abc import Mapping

from sky.core.errors import NotSupportedError, PermissionDeniedError
from sky.core.model.users import Caller, check_user_name
from sky.core.model.workspaces import DEFAULT, Workspace, check_workspace_name, read_workspace
from sky.core.policy import rights
from sky.core.policy.rights import Right
from sky.server.api import Api
from sky.server.asgi import Call, Reply, Route
from sky.wire.codec import decode, encode
from sky.wire.openapi import Operation
from sky.wire.users import MembersBody, ServerConfigBody, WorkspaceBody, WorkspaceRecord, workspace_record

#: Bytes of a workspace's configuration.
MOST_CONFIG = 64 * 1024
#: Sections of the configuration that are shown.
_SHOWN = ("allowed_clouds", "active_workspace", "workspace_config", "rbac")


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    calls = _Workspaces(api)

    def post(path: str, summary: str, body: type, right: Right) -> Operation:
        return Operation("POST", f"/workspaces/{path}", summary, body=body, answer=WorkspaceRecord, right=right)

    return [
        api.plain(
            Operation(
                "GET", "/workspaces", "Workspaces that one may see", answer=dict[str, WorkspaceRecord], right=Right.READ
            ),
            calls.listing,
        ),
        api.plain(post("create", "Make a workspace", WorkspaceBody, Right.ADMIN), calls.create),
        api.plain(post("update", "Replace a workspace's configuration", WorkspaceBody, Right.ADMIN), calls.update),
        api.plain(
            Operation("POST", "/workspaces/delete", "Remove an empty workspace", body=WorkspaceBody, right=Right.ADMIN),
            calls.delete,
        ),
        api.plain(
            Operation(
                "GET",
                "/workspaces/config",
                "How this server is set up, as far as users need to know",
                right=Right.ADMIN,
            ),
            calls.config,
        ),
        api.plain(
            Operation("POST", "/workspaces/config", "Change workspaces", body=ServerConfigBody, right=Right.ADMIN),
            calls.configure,
        ),
        api.plain(post("batch_add_users", "Let users work in it", MembersBody, Right.USE), calls.add_users),
        api.plain(post("batch_remove_users", "Let them no longer", MembersBody, Right.USE), calls.remove_users),
    ]


class _Workspaces:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._home = api.plane.workspaces
        self._users = api.plane.users

    async def listing(self, call: Call) -> Reply:
        seen = [each for each in (await self._home.all()).values() if rights.sees(call.caller, each)]
        return Reply(encode({each.name: self._told(call.caller, each) for each in seen}))

    async def create(self, call: Call) -> Reply:
        body = decode(WorkspaceBody, await call.body())
        name = check_workspace_name(body.workspace_name)
        if name in await self._home.all():
            raise ValueError(f"There is a workspace {name!r} already.")
        return await self._put(call, name, body.config)

    async def update(self, call: Call) -> Reply:
        body = decode(WorkspaceBody, await call.body())
        return await self._put(call, (await self._made_here(body.workspace_name)).name, body.config)

    async def delete(self, call: Call) -> Reply:
        body = decode(WorkspaceBody, await call.body())
        name = (await self._made_here(body.workspace_name)).name
        if name == DEFAULT:
            raise ValueError("The workspace 'default' cannot go; make it private if nobody is to use it.")
        living = [each.name for each in await self._api.plane.clusters(None, refresh=False) if each.workspace == name]
        if living:
            raise ValueError(
                f"The workspace {name!r} is not empty: clusters {', '.join(living[:10])}. Take them down first: "
                "sky down"
            )
        await self._users.put_workspace(name, None)
        return Reply()

    async def config(self, call: Call) -> Reply:
        return Reply(encode(await self._config()))

    async def _config(self) -> dict[str, object]:
        """The settings that are about users and what they may use; those that may hold a secret are left out."""
        told: dict[str, object] = {key: value for key in _SHOWN if (value := self._api.plane.configuration().get(key))}
        spaces = {each.name: each.to_config() for each in (await self._home.all()).values()}
        return {**told, "workspaces": spaces}

    async def configure(self, call: Call) -> Reply:
        """Change workspaces that were made by calls; everything else is set where the server runs."""
        asked = decode(ServerConfigBody, await call.body()).config
        now = await self._config()
        other = sorted(key for key in asked if key != "workspaces" and asked[key] != now.get(key))
        spaces = asked.get("workspaces")
        if other or not isinstance(spaces, Mapping):
            raise NotSupportedError(
                f"Only `workspaces` can be changed by a call, not {', '.join(other)[:200] or 'nothing at all'}: the "
                "rest is in the server's configuration file (~/.sky/config.yaml where it runs)."
            )
        known = await self._home.all()
        changed = {}
        for name, told in spaces.items():
            if not isinstance(told, Mapping | None):
                raise ValueError(f"workspaces.{name[:80]}: a mapping")
            made = read_workspace(check_workspace_name(name), told or {})
            if name not in known or known[name] != made:
                changed[name] = made
        for name in changed:
            if name in known:
                await self._made_here(name)
        for name, made in changed.items():
            await self._put(call, name, made.to_config())
        return Reply(encode(await self._config()))

    async def add_users(self, call: Call) -> Reply:
        return await self._members(call, add=True)

    async def remove_users(self, call: Call) -> Reply:
        return await self._members(call, add=False)

    async def _members(self, call: Call, *, add: bool) -> Reply:
        body = decode(MembersBody, await call.body())
        found = await self._made_here(body.workspace_name, call.caller)
        names = [check_user_name(each) for each in body.users]
        if add:
            now = list(dict.fromkeys([*found.allowed_users, *names]))
        else:
            now = [each for each in found.allowed_users if each not in names]
        config: dict[str, object] = {**found.to_config(), "allowed_users": now}
        if not add and any(each in found.admins for each in names):
            config["admins"] = [each for each in found.admins if each not in names]
        return await self._put(call, found.name, config)

    async def _put(self, call: Call, name: str, config: Mapping[str, object]) -> Reply:
        made = read_workspace(name, config)
        if len(encode(made.to_config())) > MOST_CONFIG:
            raise ValueError(f"The configuration of a workspace has at most {MOST_CONFIG} bytes.")
        await self._users.put_workspace(name, made.to_config())
        return Reply(encode(self._told(call.caller, made)))

    async def _made_here(self, name: str, leader: Caller | None = None) -> Workspace:
        """A workspace that calls may change. Raises ValueError, PermissionDeniedError."""
        spaces = await self._home.all()
        found = spaces.get(name)
        if found is None or (leader is not None and not rights.sees(leader, found)):
            raise ValueError(f"There is no workspace {name[:80]!r}. `sky workspace list` shows those that there are.")
        if leader is not None and not rights.leads(leader, found):
            raise PermissionDeniedError(f"{leader.user} is no admin of the workspace {name!r}.")
        if name in self._home.configured():
            raise ValueError(f"The workspace {name!r} is set in the server's configuration file; change it there.")
        return found

    def _told(self, caller: Caller, workspace: Workspace) -> WorkspaceRecord:
        made_here = workspace.name not in self._home.configured() and workspace.name != DEFAULT
        return workspace_record(
            workspace,
            works=rights.enters(caller, workspace),
            leads=rights.leads(caller, workspace),
            made_here=made_here,
        )
