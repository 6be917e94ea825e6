"""What Oracle Cloud sells, from its public estimator (shapes) and price list (parts); neither needs an account.

Found by the manifest. Prices are the same in every commercial region, and which region has which shape is not
published: every shape is told for every region. Preemptible machines cost half.
"""

import re
from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Market, Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, number, text, wanted

_SHAPES = "https://www.oracle.com"
_PARTS = "https://apexapps.oracle.com"
_PREEMPTIBLE = 0.5
#: Commercial regions, as the documentation lists them.
_REGIONS = [
    "af-johannesburg-1",
    "ap-chuncheon-1",
    "ap-hyderabad-1",
    "ap-melbourne-1",
    "ap-mumbai-1",
    "ap-osaka-1",
    "ap-seoul-1",
    "ap-singapore-1",
    "ap-singapore-2",
    "ap-sydney-1",
    "ap-tokyo-1",
    "ca-montreal-1",
    "ca-toronto-1",
    "eu-amsterdam-1",
    "eu-frankfurt-1",
    "eu-madrid-1",
    "eu-marseille-1",
    "eu-milan-1",
    "eu-paris-1",
    "eu-stockholm-1",
    "eu-zurich-1",
    "il-jerusalem-1",
    "me-abudhabi-1",
    "me-dubai-1",
    "me-jeddah-1",
    "me-riyadh-1",
    "mx-monterrey-1",
    "mx-queretaro-1",
    "sa-bogota-1",
    "sa-santiago-1",
    "sa-saopaulo-1",
    "sa-valparaiso-1",
    "sa-vinhedo-1",
    "uk-cardiff-1",
    "uk-london-1",
    "us-ashburn-1",
    "us-chicago-1",
    "us-phoenix-1",
    "us-sanjose-1",
]
#: Parts under which data that goes to the internet is billed, by the beginning of the names of regions.
_TRANSFERS = {
    "B88327": ("us-", "ca-", "eu-", "uk-"),
    "B93455": ("ap-", "sa-"),
    "B93456": ("me-", "af-", "il-"),
}
#: Devices by the word in a shape's name: ours, and GiB of one (the estimator tells the total for most, not for all).
_DEVICES = {
    "GPU2": ("P100", 16.0), "GPU3": ("V100", 16.0), "GPU4": ("A100", 40.0), "A10": ("A10", 24.0),
    "A100-v2": ("A100-80GB", 80.0), "L40S": ("L40S", 48.0), "H100": ("H100", 80.0), "H200": ("H200", 141.0),
    "B200": ("B200", 180.0), "MI300X": ("MI300X", 192.0), "MI355X": ("MI355X", 288.0),
}  # fmt: skip
_GPU_SHAPE = re.compile(r"(?:BM|VM)\.(GPU\d?)(?:\.([A-Za-z0-9-]+))?\.\d+")
#: Flexible shapes are sold by the processor and the GiB; these are the sizes that are listed, in vCPUs and GiB each.
_FLEXIBLE = ("VM.Standard.E4.Flex", "VM.Standard.E5.Flex")
_SIZES = (2, 4, 6, 8, 12, 16, 20, 24, 32, 64, 96, 128)
_GIB_OF_A_CPU = (4, 8)
_CPUS_OF_AN_OCPU = 2


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Every priced shape in every region. See `core.ports.PriceSource`."""
    url = f"{endpoint(ask, _SHAPES)}/a/ocom/docs/cloudestimator2/data/shapes.json"
    reading = Reading("oci", url, ask, Quality.LIST)
    costs = _parts(web, ask)
    only = wanted(ask)
    regions = [each for each in _REGIONS if only is None or each in only]
    for transfer, beginnings in _TRANSFERS.items():
        for region in regions:
            if transfer in costs and region.startswith(beginnings):
                yield from reading.egress(region, "internet", costs[transfer][0])
    with web.get(url, at_most=32 * 2**20) as reply:
        shapes = fields(reply.json()).get("items")
        if not isinstance(shapes, list):
            raise reading.malformed("list of shapes")
        for shape in map(fields, entries(shapes)):
            named = re.sub(r"\s*\(.*\)\s*$", "", text(shape.get("name")))
            if shape.get("status") != "ACTIVE" or shape.get("hidden") is True:
                continue
            if fields(shape.get("subType")).get("value") == "gpu":
                yield from _fixed(reading, named, shape, costs, regions)
            elif named in _FLEXIBLE:
                yield from _flexible(reading, named, shape, costs, regions)
        yield from reading.end(reply)


def _parts(web: Web, ask: PriceAsk) -> dict[str, tuple[float, str]]:
    """Part number to USD per unit (of the first tier that costs something), and what the unit is."""
    url = f"{endpoint(ask, _PARTS)}/pls/apex/cetools/api/v1/products/?currencyCode=USD"
    with web.get(url, at_most=32 * 2**20) as reply:
        products = fields(reply.json()).get("items")
    found: dict[str, tuple[float, str]] = {}
    for product in map(fields, entries(products)):
        for local in map(fields, entries(product.get("currencyCodeLocalizations"))):
            for price in map(fields, entries(local.get("prices"))):
                cost = number(price.get("value"), 1000)
                if local.get("currencyCode") == "USD" and price.get("model") == "PAY_AS_YOU_GO" and cost is not None:
                    found.setdefault(text(product.get("partNumber")), (cost, text(product.get("metricName")).upper()))
    if not found:
        raise Reading("oci", url, ask, Quality.LIST).malformed("price in USD")
    return found


def _part(shape: Mapping[str, object], kind: str) -> Mapping[str, object]:
    parts = map(fields, entries(shape.get("products")))
    return next((each for each in parts if fields(each.get("type")).get("value") == kind), {})


def _fixed(
    reading: Reading,
    named: str,
    shape: Mapping[str, object],
    costs: Mapping[str, tuple[float, str]],
    regions: list[str],
) -> Iterator[Row]:
    match, processors = _GPU_SHAPE.fullmatch(named), _part(shape, "ocpu")
    device, memory = _DEVICES.get((match[2] or match[1]) if match else "", (None, None))
    count, ocpus = number(shape.get("gpuQty"), 64), number(processors.get("qty"), 1024)
    cost, metric = costs.get(text(processors.get("partNumber")), (None, ""))
    if device is None or cost is None:
        return  # a device that is not known here, or a part without a list price
    units = count if "GPU" in metric else ocpus if "OCPU" in metric else None
    if count is None or ocpus is None or units is None:
        reading.skip(named)
        return
    made = reading.type(
        named, ocpus * _CPUS_OF_AN_OCPU, shape.get("bundleMemoryQty"),
        accelerator=device, count=count, device_gib=memory, family=named.rpartition(".")[0],
        features=frozenset(["metal"]) if named.startswith("BM.") else frozenset(),
    )  # fmt: skip
    if made:
        yield from made
        yield from _everywhere(reading, named, shape, cost * units, regions)


def _flexible(
    reading: Reading,
    named: str,
    shape: Mapping[str, object],
    costs: Mapping[str, tuple[float, str]],
    regions: list[str],
) -> Iterator[Row]:
    processors, memory = _part(shape, "ocpu"), _part(shape, "memory")
    per_ocpu, _ = costs.get(text(processors.get("partNumber")), (None, ""))
    per_gib, _ = costs.get(text(memory.get("partNumber")), (None, ""))
    if per_ocpu is None or per_gib is None:
        reading.skip(named)
        return
    most_ocpus, most_gib = number(processors.get("max")) or 1024.0, number(memory.get("max")) or 4096.0
    for cpus in _SIZES:
        for gib in (cpus * each for each in _GIB_OF_A_CPU):
            if cpus <= most_ocpus * _CPUS_OF_AN_OCPU and gib <= most_gib:
                size = f"{named}$_{cpus}_{gib}"
                yield from reading.type(size, cpus, gib, family=named)
                cost = cpus / _CPUS_OF_AN_OCPU * per_ocpu + gib * per_gib
                yield from _everywhere(reading, size, shape, cost, regions)


def _everywhere(
    reading: Reading, named: str, shape: Mapping[str, object], cost: float, regions: list[str]
) -> Iterator[Row]:
    for region in regions:
        yield from reading.price(named, region, cost)
        if shape.get("allowPreemptible") is True:
            half = cost * _PREEMPTIBLE
            yield from reading.price(named, region, half, market=Market.SPOT, quality=Quality.DERIVED)
