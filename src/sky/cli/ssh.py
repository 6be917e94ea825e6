"""ssh up and down: what machines of SSH pools have, and forgetting it. Loaded by its group when one runs."""

from collections.abc import Mapping

import click

from sky.cli import exit_codes, options, tables
from sky.cli.output import emit
from sky.cli.records import Record, number, text
from sky.cli.terminal import Progress, say, talk
from sky.sdk import requests
from sky.sdk import ssh as sdk

_COLUMNS = ("POOL", "MACHINE", "STATE", "CPUS FREE", "GB FREE", "GPUS FREE", "IN USE BY", "DETAIL")


@options.command("up", help="Look at the machines of SSH pools; nothing is installed on them.")
@click.option("--infra", metavar="POOL", help="Only this pool.")
@click.option("-f", "--file", type=click.Path(dir_okay=False, exists=True), help="A file that defines pools.")
@click.option("--async/--no-async", "asynchronous", default=False, hidden=True)
@options.output
def up(*, infra: str | None, file: str | None, asynchronous: bool, form: str) -> int:
    """Look at pools. Exit code 1 when a machine cannot be used."""
    with Progress("Looking at machines…"):
        found: list[Record] = requests.get(sdk.ssh_up(infra, file))
    if form != "table":
        emit([dict(each) for each in found], form)
    else:
        say(tables.render(_COLUMNS, [_row(each) for each in found]))
    well = [each for each in found if text(each, "state") == "up"]
    if len(well) < len(found):
        talk(f"{len(found) - len(well)} of {len(found)} machines cannot be used.", "yellow")
    return exit_codes.OK if found and len(well) == len(found) else exit_codes.ERROR


@options.command("down", help="Forget what is known of SSH pools; refused while clusters use them.")
@click.option("--infra", metavar="POOL", help="Only this pool.")
@click.option("--force", is_flag=True, help="Also while clusters use it; what runs there goes on.")
@click.option("--async/--no-async", "asynchronous", default=False, hidden=True)
def down(*, infra: str | None, force: bool, asynchronous: bool) -> int:
    """Forget pools."""
    names: list[str] = requests.get(sdk.ssh_down(infra, force))
    say(f"Forgotten: {', '.join(names) or 'nothing'}. `sky ssh up` looks again.")
    return exit_codes.OK


def _row(machine: Record) -> list[object]:
    there, free = machine.get("accelerators"), machine.get("free_accelerators")
    kinds: Mapping[str, float] = there if isinstance(there, Mapping) else {}
    left: Mapping[str, float] = free if isinstance(free, Mapping) else {}
    holders = machine.get("holders")
    known = number(machine, "cpus") > 0
    return [
        text(machine, "pool"),
        text(machine, "machine"),
        text(machine, "state"),
        f"{number(machine, 'free_cpus'):g}/{number(machine, 'cpus'):g}" if known else "-",
        f"{number(machine, 'free_memory_gb'):g}/{number(machine, 'memory_gb'):g}" if known else "-",
        ", ".join(f"{kind} {left.get(kind, 0):g}/{count:g}" for kind, count in kinds.items()) or "-",
        ", ".join(map(str, holders)) if isinstance(holders, list) and holders else "-",
        text(machine, "detail") or "-",
    ]
