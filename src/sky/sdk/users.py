"""Users, tokens and the audit log of a server. The interface has no functions for these; they are ours.

What they return are records: mappings whose fields are attributes as well. Errors are raised as by every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sky.sdk.http1 import query
from sky.sdk.records import Record
from sky.sdk.transport import call

_TOKENS = "/users/service-account-tokens"


def users() -> list[Record]:
    """Users: `name`, `role`, `kind`, `made_by`, `disabled` … Everybody for admins, oneself for others."""
    return [Record(each) for each in call("GET", "/users").json()]


def me() -> Record:
    """Who one is at the server: `name`, `role`, `via`, `workspaces` in which one may work, `preferred`."""
    return Record(call("GET", "/users/role").json())


def create_user(name: str, role: str = "user", *, password: str | None = None) -> Record:
    """Let somebody in before they come by a login or a proxy, or by a password."""
    body = {"username": name, "role": role, **({"password": password} if password is not None else {})}
    return Record(call("POST", "/users/create", body).json())


def update_user(
    name: str, *, role: str | None = None, disabled: bool | None = None, password: str | None = None
) -> Record:
    """Give a user another role or password, or shut them out."""
    body = {"user_name": name, "role": role, "disabled": disabled}
    return Record(
        call("POST", "/users/update", {**body, **({"password": password} if password is not None else {})}).json()
    )


def import_users(table: str) -> Record:
    """Take the users of a table of comma-separated values: `username`, and `password` and `role` if they are there.

    The answer has `success_count`, `error_count` and `errors`.
    """
    return Record(call("POST", "/users/import", {"csv_content": table}).json())


def export_users() -> str:
    """All users as such a table, with what is kept of their passwords."""
    return str(call("GET", "/users/export").json()["csv_content"])


def delete_user(name: str) -> None:
    """Forget a user, their tokens and their service accounts; refused while they have clusters."""
    call("POST", "/users/delete", {"user_name": name})


def tokens() -> list[Record]:
    """Tokens of one's own, or all for an admin; without their secrets."""
    return [Record(each) for each in call("GET", _TOKENS).json()]


def create_token(
    name: str,
    *,
    expires_in_days: float | None = None,
    role: str | None = None,
    workspaces: Sequence[str] | None = None,
    renewable: bool = False,
) -> Record:
    """A service account and its token, which is in `token` this once.

    `expires_in_days`: 90 by default, 0 for never. A `renewable` token gets a new life whenever it asks (`renew_token`).
    """
    body = {
        "token_name": name,
        "expires_in_days": expires_in_days,
        "role": role,
        "workspaces": None if workspaces is None else list(workspaces),
        "renewable": renewable,
    }
    return Record(call("POST", _TOKENS, body).json())


def delete_token(token_id: str) -> None:
    """End a token; the service account goes with its last one."""
    call("POST", f"{_TOKENS}/delete", {"token_id": token_id})


def rotate_token(token_id: str, expires_in_days: float | None = None) -> Record:
    """A new token in the place of a service account's, which ends; in `token` this once."""
    return Record(call("POST", f"{_TOKENS}/rotate", {"token_id": token_id, "expires_in_days": expires_in_days}).json())


def set_token_role(token_id: str, role: str) -> Record:
    """What a token may do from now on: no more than whoever asks."""
    return Record(call("POST", f"{_TOKENS}/update-role", {"token_id": token_id, "role": role}).json())


def renew_token() -> Record:
    """Give the token that calls are made with a new life; `expires_at` says until when.

    For programs that run longer than a token lasts. Raises ApiServerAuthenticationError if its end is fixed.
    """
    return Record(call("POST", "/users/tokens/renew").json())


def end_token() -> None:
    """End the token that calls are made with."""
    call("POST", "/users/tokens/end")


def audit(
    *, limit: int = 100, user: str | None = None, since: float | None = None, before: int | None = None
) -> list[Record]:
    """Calls that changed something, newest first; for admins. `since` in seconds since the epoch."""
    pairs: list[tuple[str, Any]] = [("limit", limit), ("user", user), ("before", before)]
    pairs.append(("since", None if since is None else int(since)))
    return [Record(each) for each in call("GET", "/audit" + query(pairs)).json()]
