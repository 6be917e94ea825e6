"""`sky users …` and `sky api audit`: who may do what on a server, and who did. Loaded when one of them runs."""

import sys
from typing import TextIO

import click

from sky.cli import exit_codes, options, tables, times
from sky.cli.output import emit
from sky.cli.prompts import confirm
from sky.cli.records import Record, number, text
from sky.cli.terminal import say, talk
from sky.sdk import users as sdk

_ROLES = click.Choice(["admin", "user", "viewer"])
_DAY = 86400.0


def _changed(record: Record, form: str, line: str) -> int:
    if form != "table":
        emit(user_shape(record), form)
    else:
        say(line)
    return exit_codes.OK


def user_shape(user: Record) -> dict[str, object]:
    """Return a user as `-o json` promises it."""
    return {key: user.get(key) for key in ("name", "id", "role", "kind", "made_by", "created_at", "disabled")}


@options.command("list", help="Show the users: everybody for admins, oneself for others.")
@options.output
def list_(*, form: str) -> int:
    """Show the users."""
    found = sdk.users()
    if form != "table":
        emit([user_shape(each) for each in found], form)
        return exit_codes.OK
    at = times.now()
    rows = [
        [
            text(each, "name"),
            text(each, "role"),
            "disabled" if each.disabled else text(each, "kind"),
            text(each, "made_by"),
            times.ago(number(each, "created_at"), at),
        ]
        for each in found
    ]
    say(tables.render(["NAME", "ROLE", "KIND", "MADE_BY", "CREATED"], rows))
    return exit_codes.OK


@options.command("create", help="Let somebody in who comes by a login or a proxy later, or by a password.")
@click.argument("name")
@click.option("--role", type=_ROLES, default="user", help="What they may do (user).")
@click.option("--password-stdin", is_flag=True, help="Read their password from standard input; see auth.basic.")
@options.output
def create(name: str, *, role: str, password_stdin: bool, form: str) -> int:
    """Let somebody in."""
    return _changed(sdk.create_user(name, role, password=_password(password_stdin)), form, f"{name} is {role}.")


@options.command("set-password", help="Give a user another password, read from standard input.")
@click.argument("name")
@options.output
def set_password(name: str, *, form: str) -> int:
    """Give a user another password."""
    return _changed(sdk.update_user(name, password=_password(True)), form, f"{name} has a new password.")


def _password(wanted: bool) -> str | None:
    """The first line of the standard input: in the words of the command everybody on the machine could read it."""
    return sys.stdin.readline().rstrip("\r\n") if wanted else None


@options.command("import", help="Let in and change the users of a table: a file with username, password and role.")
@click.argument("file", type=click.File("r"), default="-")
def import_(file: TextIO) -> int:
    """Take the users of a table."""
    done = sdk.import_users(file.read())
    talk(f"{done.success_count} users taken, {done.error_count} not.")
    for each in done["errors"]:
        talk(f"  {each}")
    return exit_codes.ERROR if done.error_count else exit_codes.OK


@options.command("export", help="Write all users as a table that `sky users import` reads, with hashes of passwords.")
def export() -> int:
    """Write all users as a table."""
    say(sdk.export_users().rstrip("\n"))
    return exit_codes.OK


@options.command("set-role", help="Make a user admin, user or viewer; their service accounts may not do more.")
@click.argument("name")
@click.argument("role", type=_ROLES)
@options.output
def set_role(name: str, role: str, *, form: str) -> int:
    """Give a user another role."""
    return _changed(sdk.update_user(name, role=role), form, f"{name} is {role}.")


@options.command("disable", help="Shut a user out, with all of their tokens and service accounts.")
@click.argument("name")
@options.output
def disable(name: str, *, form: str) -> int:
    """Shut a user out."""
    return _changed(sdk.update_user(name, disabled=True), form, f"{name} is shut out.")


@options.command("enable", help="Let a user in again.")
@click.argument("name")
@options.output
def enable(name: str, *, form: str) -> int:
    """Let a user in again."""
    return _changed(sdk.update_user(name, disabled=False), form, f"{name} may come in.")


@options.command("delete", help="Forget a user, their tokens and service accounts; refused while they have clusters.")
@click.argument("name")
@options.yes
def delete(name: str, *, yes: bool) -> int:
    """Forget a user."""
    confirm(f"Forgetting the user {name} and all of their tokens. Proceed?", assume_yes=yes)
    sdk.delete_user(name)
    talk(f"{name} is forgotten.")
    return exit_codes.OK


# --- tokens ----------------------------------------------------------------------------------------------------------


def token_shape(token: Record) -> dict[str, object]:
    """Return a token as `-o json` promises it."""
    keys = (
        "token_id", "token_name", "kind", "user_name", "role", "workspaces", "created_at", "created_by", "expires_at",
        "renewable", "last_used_at", "revoked_at",
    )  # fmt: skip
    return {key: token.get(key) for key in keys}


@options.command("list", help="Show tokens: one's own, or all for admins. Their secrets are nowhere on record.")
@options.output
def token_list(*, form: str) -> int:
    """Show tokens."""
    found = sdk.tokens()
    if form != "table":
        emit([token_shape(each) for each in found], form)
        return exit_codes.OK
    at = times.now()
    rows = [
        [
            text(each, "token_id"),
            text(each, "user_name"),
            text(each, "kind"),
            text(each, "role"),
            " ".join(each.workspaces) if each.workspaces is not None else "-",
            text(each, "created_by"),
            _life(each, at),
            times.ago(number(each, "last_used_at"), at),
        ]
        for each in found
    ]
    say(tables.render(["ID", "USER", "KIND", "ROLE", "WORKSPACES", "CREATED_BY", "EXPIRES", "USED"], rows))
    return exit_codes.OK


def _life(token: Record, at: float) -> str:
    if token.get("revoked_at"):
        return "revoked"
    end = token.get("expires_at")
    if not isinstance(end, int | float):
        return "never"
    return "expired" if end <= at else f"in {(end - at) / _DAY:.1f} days"


@options.command("create", help="Make a service account, sa-NAME, and print its token: it is shown this once.")
@click.argument("name")
@click.option("--expires-in-days", type=click.FloatRange(min=0), help="Days that it lasts (90); 0 for ever.")
@click.option("--role", type=_ROLES, help="What it may do: at most what you may (user).")
@click.option("-w", "--workspace", "spaces", multiple=True, help="Only in this workspace; repeatable.")
@click.option("--renewable", is_flag=True, help="It gets a new life whenever it asks, for programs that run long.")
@options.output
def token_create(
    name: str, *, expires_in_days: float | None, role: str | None, spaces: tuple[str, ...], renewable: bool, form: str
) -> int:
    """Make a service account."""
    made = sdk.create_token(
        name, expires_in_days=expires_in_days, role=role, workspaces=spaces or None, renewable=renewable
    )
    return _shown_once(made, form)


@options.command("rotate", help="Put a new token in the place of a service account's, which ends at once.")
@click.argument("token_id")
@click.option("--expires-in-days", type=click.FloatRange(min=0), help="Days that it lasts (as before).")
@options.output
def token_rotate(token_id: str, *, expires_in_days: float | None, form: str) -> int:
    """Renew a service account's token."""
    return _shown_once(sdk.rotate_token(token_id, expires_in_days), form)


def _shown_once(made: Record, form: str) -> int:
    if form != "table":
        emit({key: made.get(key) for key in ("token_id", "token", "user_name", "role", "expires_at")}, form)
        return exit_codes.OK
    say(text(made, "token"))
    talk(f"The token of {text(made, 'user_name')} ({text(made, 'role')}, id {text(made, 'token_id')}).")
    talk("It is shown this once. Use it: SKYPILOT_SERVICE_ACCOUNT_TOKEN, or sky api login --token -")
    return exit_codes.OK


@options.command("delete", help="End a token; its service account goes with its last one.")
@click.argument("token_id")
def token_delete(token_id: str) -> int:
    """End a token."""
    sdk.delete_token(token_id)
    talk(f"The token {token_id} opens nothing any more.")
    return exit_codes.OK


# --- audit -----------------------------------------------------------------------------------------------------------


def audit_shape(line: Record) -> dict[str, object]:
    """Return a line of the audit log as `-o json` promises it."""
    keys = (
        "seq", "at", "user", "via", "address", "operation", "target", "workspace", "request_id", "outcome", "detail",
        "token_id",
    )  # fmt: skip
    return {key: line.get(key) for key in keys}


@options.command("audit", help="Show calls that changed something, or tried to, newest first. For admins.")
@click.option("-l", "--limit", type=click.IntRange(min=1), default=50, help="Number of calls (50).")
@click.option("--user", help="Only those of this user.")
@click.option("--hours", type=click.FloatRange(min=0), help="Only those of so many last hours.")
@options.output
def audit(*, limit: int, user: str | None, hours: float | None, form: str) -> int:
    """Show the audit log."""
    at = times.now()
    found = sdk.audit(limit=limit, user=user, since=None if hours is None else at - hours * 3600)
    if form != "table":
        emit([audit_shape(each) for each in found], form)
        return exit_codes.OK
    rows = [
        [
            times.ago(number(each, "at"), at),
            text(each, "user") or "-",
            text(each, "via") + (f" {text(each, 'address')}" if text(each, "address") else ""),
            text(each, "operation"),
            text(each, "target") or "-",
            text(each, "outcome") or "cut short",
            text(each, "request_id")[:8] or "-",
        ]
        for each in found
    ]
    say(tables.render(["WHEN", "USER", "FROM", "CALL", "ON", "OUTCOME", "REQUEST"], rows))
    return exit_codes.OK
