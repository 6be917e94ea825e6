"""`sky api login|logout`: use a shared server, or the local one again. Loaded by the `api` group."""

import sys

import click

from sky.cli import exit_codes, options
from sky.cli.terminal import talk
from sky.sdk import login as sdk


@options.command("login", help="Use a shared server from now on. Without a token, a page of it is opened to log in.")
@click.option("-e", "--endpoint", metavar="URL", help="The server: https://HOST or http://HOST:PORT.")
@click.option("--relogin", is_flag=True, help="Log in anew although there is a login that still holds.")
@click.option(
    "-t",
    "--token",
    "--service-account-token",
    "token",
    metavar="TOKEN",
    help="A token; `-` reads it from standard input, so that it is in no list of processes.",
)
@click.option("--no-browser", is_flag=True, help="Only say which page to open, on whatever machine.")
def login(*, endpoint: str | None, relogin: bool, token: str | None, no_browser: bool) -> int:
    """Log in."""
    if token == "-":  # noqa: S105 - a sign, not a token
        token = sys.stdin.readline().strip()
        if not token:
            raise click.UsageError("There was no token on standard input.")
    me = sdk.api_login(endpoint, relogin, token, no_browser)
    talk(f"Logged in as {me['name']} ({me['role']}). Commands use this server from now on; `sky api logout` ends that.")
    return exit_codes.OK


@options.command("logout", help="End the login, there and here; commands use the server of this machine again.")
def logout() -> int:
    """Log out."""
    sdk.api_logout()
    talk("Logged out. Commands use the server of this machine.")
    return exit_codes.OK
