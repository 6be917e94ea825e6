"""`sky api start|stop|info`: the server that commands talk to. Loaded by the `api` group when one of them runs."""

import click

from sky.cli import exit_codes, options
from sky.cli.output import emit
from sky.cli.records import text
from sky.cli.terminal import say, talk
from sky.sdk import server as sdk
from sky.version import API_VERSION, __version__

_HOSTS = click.Choice(["0.0.0.0", "localhost", "127.0.0.1", "::", "::1"])  # noqa: S104 - the user's choice, with a token

_FACTS = (("status", "status"), ("commit", "commit"), ("version", "version"), ("API version", "api_version"))


@options.command("start", help="Start the server of this machine; commands do that by themselves when they need it.")
@click.option("--deploy", is_flag=True, help="Serve other machines: listen on all addresses (a token is required).")
@click.option("--host", type=_HOSTS, help="Also listen on TCP at this address.")
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port (46580).")
@click.option("--role", type=click.Choice(["all", "api", "worker"]), help="What it does, of several on one database.")
@click.option("--shared", metavar="DIR", help="Directory of files that all servers on one database share.")
@click.option("--share-port", is_flag=True, help="Let other servers of this machine listen on the port too.")
@click.option("--foreground", is_flag=True, help="Stay in the foreground.")
@click.option("--enable-basic-auth", is_flag=True, hidden=True)
@options.output
def start(
    *,
    deploy: bool,
    host: str | None,
    port: int | None,
    role: str | None,
    shared: str | None,
    share_port: bool,
    foreground: bool,
    enable_basic_auth: bool,
    form: str,
) -> int:
    """Start the server."""
    sdk.api_start(
        deploy=deploy,
        host=host,
        port=port,
        role=role,
        shared_dir=shared,
        share_port=share_port,
        foreground=foreground,
        enable_basic_auth=enable_basic_auth,
    )
    if not foreground:
        talk("The API server is running.")
        if form != "table":
            emit({"url": text(sdk.api_info(), "endpoint"), "status": "running"}, form)
    return exit_codes.OK


@options.command("stop", help="Stop the server of this machine; clusters and their jobs go on.")
@options.output
def stop(*, form: str) -> int:
    """Stop the server."""
    sdk.api_stop()
    talk("The API server is stopped. Clusters and jobs go on; the next command starts it again.")
    if form != "table":
        emit({"status": "stopped"}, form)
    return exit_codes.OK


@options.command("info", help="Show the client, the server that commands talk to, and who one is there.")
@options.output
def info(*, form: str) -> int:
    """Show the server."""
    answer = sdk.api_info()
    user = answer.get("user")
    name = str(user.get("name") or "") if hasattr(user, "get") and user else str(user or "")
    url = text(answer, "endpoint")
    shape = {
        "client": {"version": __version__, "api_version": str(API_VERSION)},
        "server": {
            "url": url,
            "status": text(answer, "status"),
            "commit": text(answer, "commit"),
            "version": text(answer, "version"),
            "api_version": text(answer, "api_version"),
        },
        "user": name,
        "notice": text(answer, "notice"),
    }
    if form != "table":
        emit(shape, form)
        return exit_codes.OK
    say(f"Client version: {__version__} (API version {API_VERSION})")
    say(f"API server: {url}")
    facts = [f"{label}: {text(answer, key) or '-'}" for label, key in _FACTS]
    say(f"  {', '.join(facts)}")
    say(f"User: {name or '-'}")
    if notice := text(answer, "notice"):
        say(notice)
    return exit_codes.OK
