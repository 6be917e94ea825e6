"""`sky api backup|restore|rotate-key` and `sky debug-dump`: looking after the server of this machine."""

from pathlib import Path

import click

from sky.cli import exit_codes, options
from sky.cli.output import emit
from sky.cli.prompts import confirm
from sky.cli.terminal import Progress, talk
from sky.sdk import upkeep as sdk


@options.command("backup", help="Copy the server's records to FILE while it runs. Keys are not in it.")
@click.argument("file")
@options.output
def backup(*, file: str, form: str) -> int:
    """Make a back-up."""
    path, size = sdk.backup(file)
    talk(f"{path} holds the records ({size} bytes). They are of use with the keys alone: keep `keys/`, too.")
    if form != "table":
        emit({"path": str(path), "bytes": size}, form)
    return exit_codes.OK


@options.command("restore", help="Put the back-up FILE in the place of the records; the server has to be stopped.")
@click.argument("file")
@options.yes
@options.output
def restore(*, file: str, yes: bool, form: str) -> int:
    """Restore a back-up."""
    # The server's parts are loaded for this command alone: no server runs that could be asked.
    from sky.kit.paths import state_dir  # noqa: PLC0415
    from sky.server.lock import AlreadyRunning  # noqa: PLC0415
    from sky.server.restore import restore as put_back  # noqa: PLC0415

    question = (
        "Machines that were made since the back-up are unknown to it; the server leaves them alone for a day "
        "(api_server.restore_grace_hours) and ends them then. Go on?"
    )
    confirm(question, assume_yes=yes)
    try:
        aside = put_back(Path(file).expanduser(), state_dir())
    except AlreadyRunning as running:
        raise ValueError(f"{running}. Stop it first: sky api stop") from None
    talk("The records are restored." + (f" Those that were there are in {aside}." if aside else ""))
    if form != "table":
        emit({"aside": str(aside) if aside else None}, form)
    return exit_codes.OK


@options.command("rotate-key", help="Encrypt what users say to their tasks with a new key.")
@options.output
def rotate_key(*, form: str) -> int:
    """Exchange the key."""
    with Progress("Encrypting the records anew"):
        key, rows = sdk.rotate_key()
    talk(f"The key {key} is in use; {rows} rows were encrypted anew. Earlier keys stay, for back-ups.")
    if form != "table":
        emit({"key": key, "rows": rows}, form)
    return exit_codes.OK


@options.command("debug-dump", help="Write versions, records, logs and metrics to a zip, without secrets.")
@click.argument("file", default="sky-debug.zip")
@options.output
def debug_dump(*, file: str, form: str) -> int:
    """Collect what helps to find a fault."""
    path, size = sdk.debug_dump(file)
    talk(f"{path} ({size} bytes) has no secrets of tasks in it; names of clusters, users and machines it has.")
    if form != "table":
        emit({"path": str(path), "bytes": size}, form)
    return exit_codes.OK
