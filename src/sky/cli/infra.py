"""check and gpus: which places can be used and what they sell. Loaded by the root group when one of them runs."""

import sys
from collections.abc import Iterable, Mapping

import click

from sky.cli import exit_codes, options, tables
from sky.cli.output import emit
from sky.cli.status_view import Record, number, text
from sky.cli.terminal import Progress, paint, say, talk
from sky.sdk import infra as sdk
from sky.sdk import requests
from sky.sdk.records import CloudAccess

_COLUMNS = (
    "GPU", "QTY", "CLOUD", "INSTANCE_TYPE", "DEVICE_MEM", "vCPUs", "HOST_MEM", "HOURLY_PRICE", "HOURLY_SPOT_PRICE",
    "REGION",
)  # fmt: skip
_COMMON = ("H100", "H200", "B200", "A100", "A100-80GB", "L4", "L40S", "A10", "A10G", "T4", "V100")


@options.command("check", help="Show which infra is enabled, and why the rest is not.")
@click.argument("infra", nargs=-1)
@click.option("-v", "--verbose", is_flag=True, help="Show the accounts in use.")
@click.option("-w", "--workspace", help="Workspace to check for.")
@options.output
def check(infra: tuple[str, ...], *, verbose: bool, workspace: str | None, form: str) -> int:
    """Check infra. Exit code 1 when nothing is enabled."""
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
        for cloud, access in sorted(clouds.items()):
            shape = access_shape(access)
            if shape["enabled"]:
                enabled.append(cloud)
            _print_access(cloud, shape, verbose)
    if not enabled:
        talk("No infra is enabled.", "red")
        return exit_codes.ERROR
    say(f"\nEnabled infra: {', '.join(dict.fromkeys(enabled))}")
    return exit_codes.OK


def access_shape(access: CloudAccess) -> dict[str, object]:
    """Return access to a cloud as `-o json` promises it."""
    return {
        "enabled": access.enabled,
        "capabilities": list(access),
        "reason": access.reason or None,
        "hint": access.hint or None,
        "account": access.account,
    }


def _print_access(cloud: str, shape: Mapping[str, object], verbose: bool) -> None:
    if shape["enabled"]:
        capabilities = shape["capabilities"]
        say(f"  {cloud}: {paint('enabled', 'green', sys.stdout)} {capabilities_text(capabilities)}")
        if verbose and shape["account"]:
            say(f"    account: {shape['account']}")
        return
    say(f"  {cloud}: {paint('disabled', 'yellow', sys.stdout)}")
    if shape["reason"]:
        say(f"    reason: {shape['reason']}")
    if shape["hint"]:
        say(f"    to enable: {shape['hint']}")


def capabilities_text(capabilities: object) -> str:
    """Return capabilities as `[compute, storage]`."""
    return f"[{', '.join(map(str, capabilities))}]" if isinstance(capabilities, list | tuple) else ""


def _request(accelerator: str | None) -> tuple[str | None, int | None]:
    if not accelerator:
        return None, None
    name, _, quantity = accelerator.partition(":")
    if quantity and not quantity.isdigit():
        raise click.UsageError(f"{accelerator!r}: after the colon comes a whole number, as in {name}:8.")
    return name or None, int(quantity) if quantity else None


@options.command("list", help="Show accelerators: the common ones, or where ACCELERATOR[:QUANTITY] is sold.")
@click.argument("accelerator", required=False, metavar="[ACCELERATOR[:QUANTITY]]")
@click.option("-a", "--all", "everything", is_flag=True, help="All accelerators with all their offers.")
@click.option("--infra", help="Only there: cloud[/region].")
@click.option("--cloud", hidden=True)
@click.option("--region", hidden=True)
@click.option("--all-regions", is_flag=True, help="One row per region instead of the cheapest.")
@click.option("-v", "--verbose", is_flag=True, hidden=True)
@options.output
def gpus_list(
    accelerator: str | None,
    *,
    everything: bool,
    infra: str | None,
    cloud: str | None,
    region: str | None,
    all_regions: bool,
    verbose: bool,
    form: str,
) -> int:
    """Show accelerators."""
    if infra and (cloud or region):
        raise click.UsageError("--infra already says the cloud and region; drop --cloud and --region.")
    if infra:
        cloud, _, region = (infra.partition("/")[0], "", infra.partition("/")[2] or None)
    name, quantity = _request(accelerator)
    clouds = [cloud] if cloud and cloud != "*" else None
    found: Mapping[str, list[Record]] = requests.get(
        sdk.list_accelerators(
            gpus_only=False,
            name_filter=name,
            region_filter=region,
            quantity_filter=quantity,
            clouds=clouds,
            all_regions=all_regions,
            require_price=False,
            case_sensitive=False,
        )
    )
    offers = [offer for name in sorted(found) for offer in found[name]]
    if form != "table":
        emit([offer_shape(offer) for offer in offers], form)
        return exit_codes.OK
    if not offers:
        where = f" in {infra or cloud}" if infra or cloud else ""
        what = f"{accelerator}" if accelerator else "accelerators"
        say(f"No {what}{where}.")
        talk("`sky check` shows which infra is enabled.")
        return exit_codes.OK
    if accelerator or everything:
        _print_offers(offers)
    else:
        _print_summary(found)
    return exit_codes.OK


def offer_shape(offer: Record) -> dict[str, object]:
    """Return an offer as `-o json` promises it; memory in GB, prices in USD per hour."""
    return {
        "accelerator": text(offer, "accelerator_name"),
        "count": offer.get("accelerator_count"),
        "cloud": text(offer, "cloud"),
        "instance_type": text(offer, "instance_type"),
        "device_memory": offer.get("device_memory"),
        "cpus": offer.get("cpu_count"),
        "memory": offer.get("memory"),
        "price": offer.get("price"),
        "spot_price": offer.get("spot_price"),
        "region": text(offer, "region"),
    }


def _gb(value: object) -> str:
    return f"{value:g}GB" if isinstance(value, int | float) else "-"


def _price(value: object) -> str:
    return f"$ {value:.3f}" if isinstance(value, int | float) else "-"


def _print_offers(offers: Iterable[Record]) -> None:
    rows = [
        [
            text(offer, "accelerator_name"),
            f"{number(offer, 'accelerator_count'):g}",
            text(offer, "cloud"),
            text(offer, "instance_type"),
            _gb(offer.get("device_memory")),
            f"{number(offer, 'cpu_count'):g}",
            _gb(offer.get("memory")),
            _price(offer.get("price")),
            _price(offer.get("spot_price")),
            text(offer, "region"),
        ]
        for offer in offers
    ]
    say(tables.render(_COLUMNS, rows, right=("HOURLY_PRICE", "HOURLY_SPOT_PRICE")))


def _print_summary(found: Mapping[str, list[Record]]) -> None:
    groups: dict[str, list[list[object]]] = {"COMMON_GPU": [], "GOOGLE_TPU": [], "OTHER_GPU": []}
    for name in sorted(found):
        counts = sorted({number(offer, "accelerator_count") for offer in found[name]})
        group = "GOOGLE_TPU" if name.lower().startswith("tpu") else "COMMON_GPU" if name in _COMMON else "OTHER_GPU"
        groups[group].append([name, ", ".join(f"{count:g}" for count in counts)])
    tables_shown = [tables.render((title, "AVAILABLE_QUANTITIES"), rows) for title, rows in groups.items() if rows]
    say("\n\n".join(tables_shown))
