"""The ledger in the columns of FOCUS 1.0, the open specification of cost and usage data of the FinOps Foundation.

A line that goes on over several months is one row for each, so that every row lies within its billing period; the rows
of a line add up to it. Asked by the command line, for spreadsheets and for tools that read bills of all clouds alike.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

#: All columns of version 1.0, in the order of their names.
COLUMNS = (
    "AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd",
    "ChargePeriodStart", "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "ConsumedQuantity", "ConsumedUnit", "ContractedCost",
    "ContractedUnitPrice", "EffectiveCost", "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory",
    "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId",
    "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "SkuId", "SkuPriceId", "SubAccountId",
    "SubAccountName", "Tags",
)  # fmt: skip

Row = Mapping[str, str | float | None]

_PROVIDERS = {"aws": "AWS", "gcp": "Google Cloud", "azure": "Microsoft Azure", "oci": "Oracle Cloud",
              "local": "This machine", "ssh": "Own machines", "slurm": "Slurm"}  # fmt: skip
#: By kind of line: category and name of the service, type of the resource.
_KINDS = {
    "machine": ("Compute", "Virtual Machines", "Virtual Machine"),
    "disk": ("Storage", "Block Storage", "Disk"),
    "image": ("Storage", "Machine Images", "Machine Image"),
    "address": ("Networking", "IP Addresses", "IP Address"),
    "balancer": ("Networking", "Load Balancing", "Load Balancer"),
}
_HOUR_S = 3600.0


def rows(lines: Iterable[Mapping[str, object]], now: float) -> list[Row]:
    """Rows of lines as `sky ledger -o json` tells them; what goes on ends `now`. USD, hours."""
    told: list[Row] = []
    for line in lines:
        began = _number(line, "began")
        ended = now if line.get("ended") is None else _number(line, "ended")
        for begin, end, month, following in _months(began, max(began, ended)):
            told.append(_row(line, (begin, end), (month, following)))
    return told


def _months(began: float, ended: float) -> Iterable[tuple[float, float, float, float]]:
    """The parts of a time that lie in each month of UTC, with the month's own bounds."""
    at = began
    while True:
        first = datetime.fromtimestamp(at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = (first + timedelta(days=32)).replace(day=1).timestamp()
        end = min(ended, following)
        yield at, end, first.timestamp(), following
        if end >= ended:
            return
        at = end


def _row(line: Mapping[str, object], charge: tuple[float, float], billing: tuple[float, float]) -> Row:
    kind = str(line.get("kind"))
    category, service, resource_type = _KINDS.get(kind, ("Other", kind, kind))
    hours = (charge[1] - charge[0]) / _HOUR_S
    price = _number(line, "price_hourly")
    cost = hours * price
    cloud, region = str(line.get("cloud")), str(line.get("region") or "")
    provider = _PROVIDERS.get(cloud, cloud)
    spot = line.get("market") == "spot"
    type_ = str(line.get("instance_type") or "") or None
    what = f"{type_ or resource_type}{' (spot)' if spot else ''} of cluster {line.get('cluster')}"
    sku = "/".join(part for part in (cloud, region, type_, str(line.get("market"))) if part)
    workspace = str(line.get("workspace"))
    told: dict[str, str | float | None] = dict.fromkeys(COLUMNS)
    told |= {
        "AvailabilityZone": str(line["zone"]) if line.get("zone") else None,
        "BilledCost": cost,
        "BillingAccountId": cloud,
        "BillingAccountName": provider,
        "BillingCurrency": "USD",
        "BillingPeriodEnd": _moment(billing[1]),
        "BillingPeriodStart": _moment(billing[0]),
        "ChargeCategory": "Usage",
        "ChargeDescription": what,
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": _moment(charge[1]),
        "ChargePeriodStart": _moment(charge[0]),
        "ConsumedQuantity": hours,
        "ConsumedUnit": "Hours",
        "ContractedCost": cost,
        "ContractedUnitPrice": price,
        "EffectiveCost": cost,
        "InvoiceIssuerName": provider,
        "ListCost": cost,
        "ListUnitPrice": price,
        "PricingCategory": "Dynamic" if spot else "Standard",
        "PricingQuantity": hours,
        "PricingUnit": "Hours",
        "ProviderName": provider,
        "PublisherName": provider,
        "RegionId": region or None,
        "RegionName": region or None,
        "ResourceId": str(line.get("resource")),
        "ResourceName": str(line.get("cluster")),
        "ResourceType": resource_type,
        "ServiceCategory": category,
        "ServiceName": service,
        "SkuId": sku,
        "SkuPriceId": sku,
        "SubAccountId": workspace,
        "SubAccountName": workspace,
        "Tags": _tags(line),
    }
    return told


def _tags(line: Mapping[str, object]) -> str:
    """The labels, and beside them what this product knows: user, cluster, and the managed job if it is one's."""
    said = json.loads(str(line.get("labels") or "{}"))
    own = {"sky:user": line.get("user"), "sky:cluster": line.get("cluster_hash"), "sky:for": line.get("origin")}
    return json.dumps({**said, **{key: str(value) for key, value in own.items() if value}}, sort_keys=True)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _number(line: Mapping[str, object], key: str) -> float:
    value = line.get(key)
    return float(value) if isinstance(value, int | float) else 0.0
