"""Messages about users, tokens, workspaces, logins and the audit log. Used by the server's routes."""

from typing import Any

from sky.core.model.audit import AuditLine
from sky.core.model.users import Token, User
from sky.core.model.workspaces import Workspace
from sky.wire.clusters import user_hash
from sky.wire.codec import Body, Record, field

#: Days that a service account's token lasts unless another number is given.
DAYS = 90.0
_MOST_DAYS = 3650.0


def _check_days(days: float | None) -> None:
    if days is not None and not 0 <= days <= _MOST_DAYS:
        raise ValueError(f"expires_in_days: found {days:g}; allowed: above 0 and at most {_MOST_DAYS:g}; 0 for never")


class NewUserBody(Body):
    """Arguments of `/users/create`. Without a password they come by a login or a proxy."""

    username: str
    role: str = "user"
    password: str | None = None


class UserBody(Body):
    """Arguments of `/users/update` and `/users/delete`; a user is named by name or by id."""

    user_id: str | None = None
    user_name: str | None = None
    role: str | None = None
    disabled: bool | None = None
    password: str | None = None


class UsersBody(Body):
    """Arguments of `/users/batch_update`: changes of several users, each as `/users/update` takes it."""

    updates: list[UserBody]


class RosterBody(Body):
    """Arguments of `/users/import`: a table whose first line names `username`, `password`, `role`."""

    csv_content: str


class RosterRecord(Record):
    """All users as a table that `/users/import` reads, with what is kept of their passwords."""

    csv_content: str
    user_count: int


class DoneRecord(Record):
    """What became of a call about several users; an error names whom it is about."""

    message: str
    success_count: int
    error_count: int
    errors: list[str]


class PreferredBody(Body):
    """Arguments of `/users/me/workspace`; None forgets the preference."""

    preferred: str | None = None


class NewAccountBody(Body):
    """Arguments of `/users/service-account-tokens`.

    `expires_in_days` of 0 means never; `renewable` tokens get a new life of as many days whenever they ask. `role` and
    `workspaces` are at most those of whoever asks.
    """

    token_name: str
    expires_in_days: float | None = None
    role: str | None = None
    workspaces: list[str] | None = None
    renewable: bool = False

    def __post_init__(self) -> None:
        """Refuse lives that are none."""
        _check_days(self.expires_in_days)


class TokenBody(Body):
    """Arguments of the calls about one token; `role` of `update-role`, `expires_in_days` of `rotate`."""

    token_id: str
    role: str | None = None
    expires_in_days: float | None = None

    def __post_init__(self) -> None:
        """Refuse lives that are none."""
        _check_days(self.expires_in_days)


class WorkspaceBody(Body):
    """Arguments of `/workspaces/create`, `update` and `delete`."""

    workspace_name: str
    config: dict[str, Any] = field(default_factory=dict)


class ServerConfigBody(Body):
    """Arguments of `/workspaces/config`: the server's configuration, of which only `workspaces` can be changed."""

    config: dict[str, Any] = field(default_factory=dict)


class MembersBody(Body):
    """Arguments of `/workspaces/batch_add_users` and `batch_remove_users`."""

    workspace_name: str
    users: list[str]


class UserRecord(Record):
    """Somebody who is known here. `created_at` in seconds since the epoch."""

    id: str
    name: str
    role: str
    kind: str
    created_at: float
    made_by: str
    disabled: bool


class MeRecord(Record):
    """Who the caller is, what they may do, and where. `via` says how the server knows."""

    id: str
    name: str
    role: str
    via: str
    workspaces: list[str]
    preferred: str | None = None
    token_id: str | None = None


class TokenRecord(Record):
    """A token, without its secret. Times are seconds since the epoch."""

    token_id: str
    token_name: str
    kind: str
    user_name: str
    user_hash: str
    role: str
    workspaces: list[str] | None
    created_at: float
    created_by: str
    expires_at: float | None
    renew_until: float | None
    renewable: bool
    last_used_at: float | None
    revoked_at: float | None


class NewTokenRecord(Record):
    """A token as it is shown this once."""

    token_id: str
    token: str
    user_name: str
    role: str
    expires_at: float | None = None


class WorkspaceRecord(Record):
    """A workspace and what the caller may do in it. `made_here`: by a call, and not by the server's configuration."""

    name: str
    config: dict[str, Any]
    may_work: bool
    may_lead: bool
    made_here: bool


class AuditRecord(Record):
    """A call that changed something, or tried to. An empty `outcome`: it was cut short."""

    seq: int
    at: float
    user: str
    via: str
    address: str
    operation: str
    target: str
    workspace: str
    request_id: str
    outcome: str
    detail: str
    token_id: str


class LoginWays(Record):
    """How one can log in here."""

    token: bool
    oidc: bool
    proxy: bool


class DeviceBody(Body):
    """Arguments of `/auth/device/token`."""

    device_code: str


class ConfirmBody(Body):
    """Arguments of `/auth/device/confirm`: the code that the command line shows."""

    user_code: str


class DeviceRecord(Record):
    """A login of the command line that waits to be confirmed in a browser. Times in seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: float
    interval: float


class DeviceOutcome(Record):
    """How such a login stands: `pending`, or `done` with the token."""

    status: str
    token: str | None = None
    user_name: str | None = None
    expires_at: float | None = None


def user_record(user: User) -> UserRecord:
    """A user as told."""
    return UserRecord(
        id=user_hash(user.name),
        name=user.name,
        role=user.role.value,
        kind=user.kind.value,
        created_at=user.created_at,
        made_by=user.made_by,
        disabled=user.disabled,
    )


def token_record(token: Token, role: str) -> TokenRecord:
    """A token as told; `role` is what it may do at most."""
    return TokenRecord(
        token_id=token.id,
        token_name=token.name,
        kind=token.kind.value,
        user_name=token.user,
        user_hash=user_hash(token.user),
        role=role,
        workspaces=None if token.workspaces is None else list(token.workspaces),
        created_at=token.created_at,
        created_by=token.made_by,
        expires_at=token.expires_at,
        renew_until=token.renew_until,
        renewable=renewable(token),
        last_used_at=token.used_at,
        revoked_at=token.revoked_at,
    )


def renewable(token: Token) -> bool:
    """Whether a token may be given a new life."""
    return token.lifetime_s is not None and (
        token.renew_until is None or token.expires_at is None or token.expires_at < token.renew_until
    )


def workspace_record(workspace: Workspace, *, works: bool, leads: bool, made_here: bool) -> WorkspaceRecord:
    """A workspace as told. Who else is in it is told to those who lead it."""
    config = workspace.to_config()
    if not leads:
        config = {key: value for key, value in config.items() if key not in ("allowed_users", "admins")}
    return WorkspaceRecord(name=workspace.name, config=config, may_work=works, may_lead=leads, made_here=made_here)


def audit_record(line: AuditLine) -> AuditRecord:
    """A line of the audit log as told."""
    return AuditRecord(
        seq=line.seq,
        at=line.at,
        user=line.user,
        via=line.via,
        address=line.address,
        operation=line.operation,
        target=line.target,
        workspace=line.workspace,
        request_id=line.request_id,
        outcome=line.outcome,
        detail=line.detail,
        token_id=line.token,
    )
