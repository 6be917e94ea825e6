"""gpus list: which accelerators there are, where they are sold and at what price. Loaded when it runs.

The whole catalog is shown and not only what is enabled, so that one can compare before signing up.
"""

from collections.abc import Mapping, Sequence

import click

from sky.cli import exit_codes, options, tables, times
from sky.cli.output import emit
from sky.cli.records import Record, number, text
from sky.cli.terminal import Progress, say, talk
from sky.core.model.infra import Infra
from sky.core.model.schema import nearest
from sky.sdk import infra as sdk
from sky.sdk import requests

_COLUMNS = (
    "GPU", "QTY", "CLOUD", "INSTANCE_TYPE", "DEVICE_MEM", "vCPUs", "HOST_MEM", "HOURLY_PRICE", "HOURLY_SPOT_PRICE",
    "REGION",
)  # fmt: skip
_PROVENANCE = ("QUALITY", "AGE", "SOURCE")
_NUMBERS = ("HOURLY_PRICE", "HOURLY_SPOT_PRICE")
_COMMON = ("H100", "H200", "B200", "A100", "A100-80GB", "L4", "L40S", "A10", "A10G", "T4", "V100")


@options.command("list", help="Show accelerators: the common ones, or where ACCELERATOR[:QUANTITY] is sold.")
@click.argument("accelerator", required=False, metavar="[ACCELERATOR[:QUANTITY]]")
@click.option("-a", "--all", "everything", is_flag=True, help="All accelerators with all their offers.")
@click.option("--infra", help="Only there: cloud[/region].")
@click.option("--cloud", hidden=True)
@click.option("--region", hidden=True)
@click.option("--all-regions", is_flag=True, help="One row per region instead of the cheapest.")
@click.option("-v", "--verbose", is_flag=True, help="Show where each price is from, how old and how good it is.")
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
    name, quantity = _request(accelerator)
    clouds, region = _place(infra, cloud, region)
    if not accelerator and not everything and form == "table":
        with Progress("Reading the catalog…"):
            counts = requests.get(sdk.list_accelerator_counts(gpus_only=False, region_filter=region, clouds=clouds))
        if not counts:
            return _nothing(None, infra or cloud)
        _print_counts(counts)
        return exit_codes.OK
    with Progress("Reading the catalog…"):
        found = requests.get(
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
    elif offers:
        _print_offers(offers, verbose)
        _print_ages(offers, all_regions)
    else:
        return _nothing(accelerator, infra or cloud)
    return exit_codes.OK


def _request(accelerator: str | None) -> tuple[str | None, int | None]:
    if not accelerator:
        return None, None
    name, _, quantity = accelerator.partition(":")
    if quantity and not quantity.isdecimal():
        raise click.UsageError(f"{accelerator!r}: after the colon comes a whole number, as in {name}:8.")
    return name or None, int(quantity) if quantity else None


def _place(infra: str | None, cloud: str | None, region: str | None) -> tuple[list[str] | None, str | None]:
    """The clouds and the region to filter by; `None` for any."""
    if infra and (cloud or region):
        raise click.UsageError("--infra already says the cloud and region; drop --cloud and --region.")
    try:
        place = Infra.parse(infra) if infra else Infra.of(cloud, region)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if place.zone:
        raise click.UsageError(f"--infra {infra}: prices are listed by region; name cloud or cloud/region.")
    return [place.cloud] if place.cloud else None, place.region


def offer_shape(offer: Record) -> dict[str, object]:
    """Return an offer as `-o json` promises it; memory in GB, prices in USD per hour, times since the epoch."""
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
        "quality": offer.get("quality"),
        "observed": offer.get("observed"),
        "source": offer.get("source"),
    }


def _gb(value: object) -> str:
    return f"{value:g}GB" if isinstance(value, int | float) else "-"


def _price(value: object) -> str:
    return f"$ {value:.3f}" if isinstance(value, int | float) else "-"


def _observed(offer: Record) -> float | None:
    seen = offer.get("observed")
    return float(seen) if isinstance(seen, int | float) else None


def _print_offers(offers: Sequence[Record], verbose: bool) -> None:
    now = times.now()
    rows = []
    for offer in offers:
        row = [
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
        if verbose:
            row += [text(offer, "quality"), times.ago(_observed(offer), now), text(offer, "source")]
        rows.append(row)
    say(tables.render((*_COLUMNS, *(_PROVENANCE if verbose else ())), rows, right=_NUMBERS))


def _print_ages(offers: Sequence[Record], all_regions: bool) -> None:
    """Under the table: how old the prices are, and which of them are not what a place says itself."""
    if not all_regions:
        talk("Prices are those of the cheapest region; --all-regions shows each.")
    seen = sorted(at for offer in offers if (at := _observed(offer)) is not None)
    if seen:
        now = times.now()
        newest, oldest = times.ago(seen[-1], now), times.ago(seen[0], now)
        span = newest if newest == oldest else f"between {oldest} and {newest}"
        talk(f"Prices were seen {span}; `sky gpus list -v` tells each, `sky catalog refresh` brings new ones.")
    guessed = sum(offer.get("quality") in ("estimate", "derived") for offer in offers)
    if guessed:
        talk(f"{guessed} of {len(offers)} prices are computed or estimated and not published; -v tells which.")


def _print_counts(counts: Mapping[str, Sequence[float]]) -> None:
    groups: dict[str, list[list[object]]] = {"COMMON_GPU": [], "GOOGLE_TPU": [], "OTHER_GPU": []}
    for name in sorted(counts, key=lambda each: (_COMMON.index(each) if each in _COMMON else len(_COMMON), each)):
        group = "GOOGLE_TPU" if name.lower().startswith("tpu") else "COMMON_GPU" if name in _COMMON else "OTHER_GPU"
        groups[group].append([name, ", ".join(f"{count:g}" for count in counts[name])])
    shown = [tables.render((title, "AVAILABLE_QUANTITIES"), rows) for title, rows in groups.items() if rows]
    say("\n\n".join(shown))
    talk("\n`sky gpus list NAME` shows where one is sold and at what price, `sky gpus list -a` all of them.")


def _nothing(accelerator: str | None, place: str | None) -> int:
    """Say that nothing was found, and the name that was probably meant."""
    say(f"No {accelerator or 'accelerators'}{f' in {place}' if place else ''}.")
    name = _request(accelerator)[0]
    if name is None:
        if place:
            talk("`sky gpus list` without a filter shows what there is.")
        else:
            talk("`sky catalog status` tells what is known of clouds, `sky catalog refresh` asks them.")
        return exit_codes.OK
    counts: Mapping[str, Sequence[float]] = requests.get(sdk.list_accelerator_counts(gpus_only=False))
    sold = next((each for each in counts if each.lower() == name.lower()), "")
    if sold:
        quantities = ", ".join(f"{count:g}" for count in counts[sold])
        talk(f"{sold} is sold{' elsewhere' if place else ''} in the quantities {quantities}.")
    elif meant := nearest(name, counts):
        talk(f"Did you mean {meant}?")
    else:
        talk("`sky gpus list` shows the names that are known.")
    return exit_codes.OK
