"""catalog: what is known of prices, how old it is, and having it made new. Loaded by its group when one runs."""

import re
from collections.abc import Mapping

import click

from sky.cli import exit_codes, options, tables, times
from sky.cli.output import emit
from sky.cli.records import Record, number, text
from sky.cli.targets import print_request_id, talk_of_going_on
from sky.cli.terminal import Progress, say, talk
from sky.sdk import catalog as sdk
from sky.sdk import requests

_STATUS = ("CLOUD", "TYPES", "REGIONS", "OFFERS", "PRICED", "QUALITY", "PRICES FROM", "READ", "NOT BELIEVED", "REFRESH")
_OUTCOME = ("CLOUD", "OUTCOME", "OFFERS", "NOT BELIEVED", "DETAIL")
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw]?)")
_UNITS = {"s": 1, "m": 60, "": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
#: Outcomes after which a cloud's prices are as good as they can be.
_WELL = ("refreshed", "unchanged", "young", "sourceless", "locked")
#: Outcomes that say how many prices the cloud has now.
_COUNTED = ("refreshed", "unchanged", "kept")


def age(said: str | None) -> float | None:
    """Return `7h`, `30m`, `2d` as seconds; a bare number is minutes."""
    if said is None:
        return None
    found = _AGE.fullmatch(said.strip().lower())
    if found is None:
        raise click.BadParameter(f"{said!r} is not an age: say 30m, 7h or 2d.", param_hint="--if-older")
    return float(found[1]) * _UNITS[found[2]]


@options.command("refresh", help="Ask clouds for their prices, and use from now on what is sound.")
@click.option("--infra", "clouds", multiple=True, metavar="CLOUD", help="Only this cloud (repeatable).")
@click.option("--if-older", metavar="AGE", help="Only where the known prices are older: 30m, 7h, 2d.")
@click.option("--accept", is_flag=True, help="Take prices also where they differ too much from those before.")
@options.asynchronous
@options.output
def refresh(clouds: tuple[str, ...], *, if_older: str | None, accept: bool, asynchronous: bool, form: str) -> int:
    """Refresh the catalog. Exit code 1 when a cloud that was asked failed."""
    names = [cloud.partition("/")[0] for cloud in clouds] or None
    request_id = str(sdk.refresh(names, age(if_older), accept))
    if asynchronous:
        print_request_id(request_id, form)
        return exit_codes.OK
    try:
        with Progress("Asking for prices…") as progress:
            found: list[Record] = requests.stream_and_get(request_id, output_stream=progress) or []
    except KeyboardInterrupt:
        talk_of_going_on([request_id])
        return exit_codes.INTERRUPTED
    if form != "table":
        emit([dict(each) for each in found], form)
    elif found:
        rows = [
            [
                text(each, "cloud"),
                text(each, "state"),
                *((each.get("offers"), each.get("quarantined")) if text(each, "state") in _COUNTED else ("-", "-")),
                text(each, "detail"),
            ]
            for each in found
        ]
        say(tables.render(_OUTCOME, rows, right=("OFFERS", "NOT BELIEVED")))
        if kept := [text(each, "cloud") for each in found if text(each, "state") == "kept"]:
            talk("kept: the prices from before are used on. If the new ones are right, take them with")
            talk(f"  sky catalog refresh --accept {' '.join(f'--infra {cloud}' for cloud in kept)}")
    else:
        say("No cloud can be asked for prices.")
    return exit_codes.OK if all(text(each, "state") in _WELL for each in found) else exit_codes.ERROR


@options.command("status", help="Show what the catalog holds of each cloud, how good and how old it is.")
@click.option("-v", "--verbose", is_flag=True, help="Also the rows that are not believed, and why.")
@options.output
def status(*, verbose: bool, form: str) -> int:
    """Show the catalog."""
    found = requests.get(sdk.status(quarantined=verbose))
    clouds: list[Record] = list(found.clouds)
    if form != "table":
        emit(found, form)
        return exit_codes.OK
    if not clouds:
        say("The catalog is empty. `sky catalog refresh` asks clouds for their prices.")
        return exit_codes.OK
    at = times.now()
    say(tables.render(_STATUS, [_row(each, at) for each in clouds], right=("TYPES", "REGIONS", "OFFERS", "PRICED")))
    for each in found.quarantined:
        say(f"  {each['cloud']} {each['what']}: {each['rule']}: {each['detail']}")
    talk(f"Generation {found.generation}. `sky catalog refresh` asks the clouds marked yes for newer prices.", "dim")
    return exit_codes.OK


def _row(cloud: Record, at: float) -> list[object]:
    oldest, newest = cloud.get("oldest"), cloud.get("newest")
    seen = [times.ago(float(each), at) for each in (newest, oldest) if isinstance(each, int | float)]
    qualities = cloud.get("qualities")
    counts: Mapping[str, int] = qualities if isinstance(qualities, Mapping) else {}
    fetched = cloud.get("fetched")
    return [
        text(cloud, "cloud"),
        f"{number(cloud, 'types'):,.0f}",
        f"{number(cloud, 'regions'):,.0f}",
        f"{number(cloud, 'offers'):,.0f}",
        f"{number(cloud, 'priced'):,.0f}",
        ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1])) or "-",
        " … ".join(dict.fromkeys(seen)) or "-",
        times.ago(float(fetched), at) if isinstance(fetched, int | float) else "-",
        cloud.get("quarantined") or "-",
        "yes" if cloud.get("refreshable") else "-",
    ]
