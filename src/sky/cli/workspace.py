"""`sky workspace …`: which workspace is used, which there are, and who works where. Loaded when one of them runs."""

from typing import Any

import click

from sky.cli import exit_codes, options, tables
from sky.cli.output import emit
from sky.cli.prompts import confirm
from sky.cli.records import text
from sky.cli.terminal import say, talk
from sky.sdk import workspaces as sdk


@options.command("use", help="Work in this workspace unless a call says otherwise (`active_workspace`).")
@click.argument("name", required=False)
@click.option("--clear", is_flag=True, help="Prefer none any more.")
def use(name: str | None, *, clear: bool) -> int:
    """Prefer a workspace."""
    if (name is None) != clear:
        raise click.UsageError("Pass the name of a workspace, or --clear.")
    sdk.set_preferred_workspace(name)
    talk("No workspace is preferred any more." if name is None else f"Launches work in the workspace {name!r} now.")
    active = sdk.active()
    if active is not None and active != name:
        talk(f"The configuration here says active_workspace: {active}, which comes first.", "yellow")
    return exit_codes.OK


@options.command("info", help="Show in which workspace launches work, and which are open to you.")
@options.output
def info(*, form: str) -> int:
    """Show the workspace in use."""
    told = sdk.get_user_workspace()
    if form != "table":
        emit(told, form)
        return exit_codes.OK
    say(f"Workspace: {told['workspace'] or 'none: say which, with `sky workspace use NAME`'}")
    if told["requested"]:
        say("  from active_workspace in the configuration")
    elif told["preferred"]:
        say("  preferred (sky workspace use)")
    say(f"Open to {told['user']}: {', '.join(told['accessible']) or '-'}")
    return exit_codes.OK


@options.command("list", help="Show the workspaces that you may see.")
@options.output
def list_(*, form: str) -> int:
    """Show the workspaces."""
    found = sdk.listing()
    if form != "table":
        keys = ("name", "may_work", "may_lead", "made_here", "config")
        emit([{key: each.get(key) for key in keys} for each in found], form)
        return exit_codes.OK
    rows = [
        [
            text(each, "name"),
            "private" if each.config.get("private") else "open",
            "admin" if each.may_lead else "yes" if each.may_work else "look only",
            " ".join(each.config.get("allowed_users", ())) or "-",
            _infra(each.config),
        ]
        for each in found
    ]
    say(tables.render(["NAME", "ACCESS", "YOURS", "USERS", "INFRA"], rows))
    return exit_codes.OK


def _infra(config: dict[str, Any]) -> str:
    allowed = config.get("allowed_clouds")
    denied = [cloud for cloud, told in config.items() if isinstance(told, dict) and told.get("disabled")]
    parts = [] if allowed is None else [f"only {', '.join(allowed) or 'none'}"]
    return ", ".join(parts + [f"not {cloud}" for cloud in denied]) or "all"


_settings = click.option(
    "-f", "--file", "path", type=click.Path(exists=True, dir_okay=False), help="Its configuration as YAML."
)


def _config(path: str | None, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if path is not None:
        from pathlib import Path  # noqa: PLC0415 - only those who bring a file read one

        from sky.wire.yaml_reader import expect_mapping, read_documents  # noqa: PLC0415

        documents = read_documents(Path(path).read_bytes(), path, kind="config")
        told = expect_mapping(documents[0], "config") if documents else {}
    return {**told, **{key: value for key, value in more.items() if value not in (None, (), [])}}


@options.command("create", help="Make a workspace. It is private, for the users named, unless it is --open.")
@click.argument("name")
@_settings
@click.option("--open", "everybody", is_flag=True, help="Open to everybody.")
@click.option("--user", "users", multiple=True, help="Somebody who works in it; repeatable.")
@click.option("--admin", "admins", multiple=True, help="Somebody who acts on what others have in it; repeatable.")
@click.option("--cloud", "clouds", multiple=True, help="Infra that it may use; repeatable. All, if none is named.")
def create(
    name: str,
    *,
    path: str | None,
    everybody: bool,
    users: tuple[str, ...],
    admins: tuple[str, ...],
    clouds: tuple[str, ...],
) -> int:
    """Make a workspace."""
    config = _config(path, allowed_users=list(users), admins=list(admins), allowed_clouds=list(clouds))
    config.setdefault("private", not everybody)
    sdk.create_workspace(name, config)
    talk(f"The workspace {name!r} is there: {'private' if config['private'] else 'open to everybody'}.")
    return exit_codes.OK


@options.command("update", help="Replace the configuration of a workspace by that of a file.")
@click.argument("name")
@click.option(
    "-f", "--file", "path", type=click.Path(exists=True, dir_okay=False), required=True, help="The new one as YAML."
)
def update(name: str, *, path: str) -> int:
    """Replace a workspace's configuration."""
    sdk.update_workspace(name, _config(path))
    talk(f"The workspace {name!r} is changed.")
    return exit_codes.OK


@options.command("delete", help="Remove a workspace in which there are no clusters.")
@click.argument("name")
@options.yes
def delete(name: str, *, yes: bool) -> int:
    """Remove a workspace."""
    confirm(f"Removing the workspace {name}. Proceed?", assume_yes=yes)
    sdk.delete_workspace(name)
    talk(f"The workspace {name!r} is gone.")
    return exit_codes.OK


@options.command("add-user", help="Let users work in a private workspace. For its admins.")
@click.argument("name")
@click.argument("users", nargs=-1, required=True)
def add_user(name: str, users: tuple[str, ...]) -> int:
    """Let users work in it."""
    sdk.add_users(name, users)
    talk(f"{', '.join(users)} may work in {name!r}.")
    return exit_codes.OK


@options.command("remove-user", help="Let users work in a workspace no longer; what they have there stays.")
@click.argument("name")
@click.argument("users", nargs=-1, required=True)
def remove_user(name: str, users: tuple[str, ...]) -> int:
    """Let users work there no longer."""
    sdk.remove_users(name, users)
    talk(f"{', '.join(users)} may work in {name!r} no longer.")
    return exit_codes.OK
