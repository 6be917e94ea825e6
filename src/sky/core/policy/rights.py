"""Who may do what: plain functions over a caller, an operation's right, and whose a thing is in which workspace.

Called by the server for each call. Three questions, in this order: may somebody of this role make this call at all
(`permits`); may they enter this workspace (`enters`, `sees`); may they act on this thing of somebody's (`acts`).
Everything that is not allowed here is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum

from sky.core.errors import NoWorkspaceAccessError, WorkspaceAmbiguousError
from sky.core.model.users import Caller, Role, Token, User, lesser
from sky.core.model.workspaces import Workspace

#: The machine of the server itself.
LOCAL = "local"


class Right(StrEnum):
    """What an operation needs: nothing, to look, to use the server, to administer it, to be at its own socket."""

    PUBLIC = "public"
    READ = "read"
    USE = "use"
    ADMIN = "admin"
    OWNER = "owner"


class Reach(StrEnum):
    """Whose things a request may touch: its user's own in its workspace, everybody's there, everything."""

    OWN = "own"
    WORKSPACE = "workspace"
    ALL = "all"


_HELD: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset([Right.PUBLIC, Right.READ]),
    Role.USER: frozenset([Right.PUBLIC, Right.READ, Right.USE]),
    # What is the owner's is not a matter of roles: it is asked for at the socket.
    Role.ADMIN: frozenset([Right.PUBLIC, Right.READ, Right.USE, Right.ADMIN]),
}


def permits(role: Role, right: Right | None) -> bool:
    """Whether somebody of this role may make a call that needs this right; a call that names none is nobody's."""
    return right in _HELD[role]


def narrowed(caller: Caller, user: User, token: Token) -> Caller:
    """A caller with no more than both the user and the token allow.

    A token that is bound to workspaces does not administer the server, whose ever it is.
    """
    role = lesser(user.role, token.role)
    if token.workspaces is None:
        return replace(caller, user=user.name, role=role, token=token.id)
    scope = frozenset(token.workspaces)
    return replace(caller, user=user.name, role=lesser(role, Role.USER), workspaces=scope, token=token.id)


def sees(caller: Caller, workspace: Workspace) -> bool:
    """Whether the caller may look at what is in a workspace."""
    if caller.workspaces is not None and workspace.name not in caller.workspaces:
        return False
    return workspace.read_access == "all" or _member(caller, workspace)


def enters(caller: Caller, workspace: Workspace) -> bool:
    """Whether the caller may have something of their own in a workspace."""
    if caller.workspaces is not None and workspace.name not in caller.workspaces:
        return False
    return caller.role is not Role.VIEWER and _member(caller, workspace)


def leads(caller: Caller, workspace: Workspace) -> bool:
    """Whether the caller may act on what others have in a workspace."""
    return enters(caller, workspace) and (caller.role is Role.ADMIN or caller.user in workspace.admins)


def acts(caller: Caller, owner: str, workspace: Workspace) -> bool:
    """Whether the caller may change something of `owner` in a workspace."""
    return leads(caller, workspace) or (caller.user == owner and enters(caller, workspace))


def looks(caller: Caller, owner: str, workspace: Workspace) -> bool:
    """Whether the caller may read what a request of `owner` said and gave back: more than that it exists."""
    if caller.workspaces is not None and workspace.name not in caller.workspaces:
        return False
    return caller.user == owner or leads(caller, workspace)


def reach(caller: Caller, workspace: Workspace) -> Reach:
    """Whose things a request of this caller may touch."""
    if caller.role is Role.ADMIN and caller.workspaces is None:
        return Reach.ALL
    return Reach.WORKSPACE if leads(caller, workspace) else Reach.OWN


def touches(reach: str, user: str, workspace: str, *, owner: str, inside: str) -> bool:
    """Whether a request of `user` in `workspace` may touch a thing of `owner` that is in the workspace `inside`."""
    if reach == Reach.ALL:
        return True
    return workspace == inside and (reach == Reach.WORKSPACE or user == owner)


def infra_for(reach: str, workspace: Workspace) -> Workspace:
    """The workspace with the infra that somebody of this reach may use in it.

    Jobs on `local` run as the server's own user, who may do everything here: it is for admins, unless the workspace
    says expressly that it is used.
    """
    if reach == Reach.ALL or LOCAL in (workspace.allowed_clouds or ()) or "disabled" in workspace.infra.get(LOCAL, {}):
        return workspace
    return replace(workspace, infra={**workspace.infra, LOCAL: {"disabled": True}})


def choose(
    caller: Caller,
    workspaces: Mapping[str, Workspace],
    asked: str | None,
    preferred: str | None,
    open_to: Callable[[Caller, Workspace], bool] = enters,
) -> Workspace:
    """The workspace that a call is about: the one asked for, the preferred one, or the only one that is `open_to` them.

    Raises NoWorkspaceAccessError for one that is not the caller's or not there, WorkspaceAmbiguousError.
    """
    for name in (asked, preferred):
        if name is not None:
            found = workspaces.get(name)
            if found is None or not open_to(caller, found):
                if name != asked:
                    # A preference of earlier days must not lock anybody out.
                    continue
                raise NoWorkspaceAccessError(
                    f"{caller.user} may not work in the workspace {name[:80]!r}. `sky workspace list` shows yours."
                )
            return found
    mine = [each for each in workspaces.values() if open_to(caller, each)]
    if len(mine) == 1:
        return mine[0]
    if not mine:
        raise NoWorkspaceAccessError(f"{caller.user} may not work in any workspace. An admin can add you to one.")
    names = ", ".join(sorted(each.name for each in mine))
    raise WorkspaceAmbiguousError(
        f"Several workspaces are open to {caller.user}: {names}. Say which: `sky workspace use NAME`, or "
        "`active_workspace` in the configuration."
    )


def _member(caller: Caller, workspace: Workspace) -> bool:
    if caller.role is Role.ADMIN or not workspace.private:
        return True
    return caller.user in workspace.allowed_users or caller.user in workspace.admins
