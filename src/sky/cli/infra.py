"""check: which places can be used, and what to do about the others. Loaded by the root group when it runs."""

import sys
from collections.abc import Mapping

import click

from sky.cli import exit_codes, options
from sky.cli.output import emit
from sky.cli.terminal import Progress, paint, say, talk
from sky.core.model.clouds import cloud_named
from sky.sdk import infra as sdk
from sky.sdk import requests
from sky.sdk.records import CloudAccess


@options.command("check", help="Show which infra is enabled, and why the rest is not.")
@click.argument("infra", nargs=-1)
@click.option("-v", "--verbose", is_flag=True, help="Show the accounts in use, as for places that are named.")
@click.option("-w", "--workspace", help="Workspace to check for.")
@options.output
def check(infra: tuple[str, ...], *, verbose: bool, workspace: str | None, form: str) -> int:
    """Check infra. Exit code 1 when nothing is enabled."""
    infra = tuple(_canonical(name) for name in infra)
    with Progress("Checking…"):
        found = requests.get(sdk.check(infra or None, verbose, workspace=workspace))
    if form != "table":
        emit(
            {
                space: {cloud: access_shape(access) for cloud, access in clouds.items()}
                for space, clouds in found.items()
            },
            form,
        )
        return exit_codes.OK
    enabled: list[str] = []
    for space, clouds in found.items():
        if len(found) > 1:
            say(f"Workspace {space}")
        enabled += [cloud for cloud, access in clouds.items() if access.enabled]
        _print_places(clouds, steps=verbose or bool(infra), verbose=verbose or bool(infra))
    if not enabled:
        talk("None of these is enabled." if infra else "No infra is enabled.", "red")
        return exit_codes.ERROR
    say(f"\nEnabled infra: {', '.join(sorted(set(enabled)))}")
    return exit_codes.OK


def _canonical(name: str) -> str:
    """The name by which a place is known; one that is not known here may still be that of a foreign provider."""
    try:
        return cloud_named(name).canonical_name()
    except ValueError:
        return name


def _print_places(clouds: Mapping[str, CloudAccess], *, steps: bool, verbose: bool) -> None:
    """Enabled places first, then those with credentials; the rest with the steps to take, or as one line."""
    without = [cloud for cloud in sorted(clouds) if not clouds[cloud].enabled and clouds[cloud].credentials is False]
    others = [cloud for cloud in clouds if cloud not in without]
    for cloud in sorted(others, key=lambda name: (not clouds[name].enabled, not clouds[name].credentials, name)):
        _print_access(cloud, clouds[cloud], verbose)
    if steps:
        for cloud in without:
            _print_access(cloud, clouds[cloud], verbose)
    elif without:
        say(f"\nWithout credentials: {', '.join(without)}")
        say(f"The steps that would enable one of them: sky check {without[0]}")


def access_shape(access: CloudAccess) -> dict[str, object]:
    """Return access to a cloud as `-o json` promises it."""
    return {
        "enabled": access.enabled,
        "capabilities": list(access),
        "reason": access.reason or None,
        "hint": access.hint or None,
        "account": access.account,
    }


def _print_access(cloud: str, access: CloudAccess, verbose: bool) -> None:
    if access.enabled:
        say(f"  {cloud}: {paint('enabled', 'green', sys.stdout)} {capabilities_text(list(access))}")
        if verbose and access.account:
            lines = access.account.splitlines()
            say("\n      ".join([f"    account: {lines[0]}", *lines[1:]]))
        return
    say(f"  {cloud}: {paint('disabled', 'yellow', sys.stdout)}")
    if access.reason:
        say(f"    reason: {access.reason}")
    steps = access.hint.splitlines()
    if len(steps) > 1:
        say("\n".join(["    to enable:", *(f"      {step}" for step in steps)]))
    elif steps:
        say(f"    to enable: {steps[0]}")


def capabilities_text(capabilities: object) -> str:
    """Return capabilities as `[compute, storage]`."""
    return f"[{', '.join(map(str, capabilities))}]" if isinstance(capabilities, list | tuple) else ""
