"""What AWS takes for moving data, from its public price list: to the internet, between regions, between zones.

Called by `prices.py`; the list is read as a stream.
"""

import csv
from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, ask_for, number

_LARGEST_LIST = 256 * 2**20
_FROM, _TO, _KIND = "From Region Code", "To Region Code", "Transfer Type"
_NEEDED = (
    _FROM, _TO, _KIND, "TermType", "Unit", "Currency", "PricePerUnit", "StartingRange", "From Location Type",
    "To Location", "To Location Type", "usageType",
)  # fmt: skip
_REGION = "AWS Region"

Ways = dict[tuple[str, str], tuple[float, float]]


def egress(web: Web, ask: PriceAsk, base: str) -> Iterator[Row]:
    """USD per GB by region. Raises the failures of sources; the caller decides what they cost."""
    url = f"{base}/offers/v1.0/aws/AWSDataTransfer/current/index.csv"
    reading = Reading("aws", url, ask, Quality.LIST)
    with ask_for(web, ask, url, at_most=_LARGEST_LIST) as reply:
        if reply.unchanged:
            yield reading.unchanged()
            return
        ways: Ways = {}
        for line in _lines(csv.reader(reply.lines()), reading):
            _remember(line, ways)
        if not ways:
            raise reading.malformed("price between regions")
        for (region, to), (_, price) in ways.items():
            yield from reading.egress(region, to, price)
        yield from reading.end(reply)


def _lines(table: Iterator[list[str]], reading: Reading) -> Iterator[Mapping[str, str]]:
    try:
        header = next((line for _, line in zip(range(20), table, strict=False) if line and line[0] == "SKU"), None)
        if header is None or not set(_NEEDED) <= set(header):
            raise reading.malformed(f"table with the columns {', '.join(_NEEDED)}")
        for line in table:
            if len(line) == len(header):
                yield dict(zip(header, line, strict=True))
    except csv.Error:
        raise reading.malformed("readable table") from None


def _remember(line: Mapping[str, str], ways: Ways) -> None:
    """Keep the first tier that costs something: what is free before it is a gift to the account, not a price."""
    to = _destination(line)
    price = number(line["PricePerUnit"], 10)
    plain = (line["TermType"], line["Unit"], line["Currency"]) == ("OnDemand", "GB", "USD")
    if to is None or price is None or not plain or line["From Location Type"] != _REGION:
        return
    begin = number(line["StartingRange"]) or 0.0
    way = (line[_FROM], to)
    if way not in ways or begin < ways[way][0]:
        ways[way] = (begin, price)


def _destination(line: Mapping[str, str]) -> str | None:
    """Where to, in the words of `Egress.to`; None for what is no plain way out of a region."""
    kind, usage = line[_KIND], line["usageType"]
    if kind == "AWS Outbound" and line["To Location"] == "External" and usage.endswith("DataTransfer-Out-Bytes"):
        return "internet"
    if kind == "IntraRegion" and usage.endswith("DataTransfer-Regional-Bytes"):
        return "zone"
    if kind == "InterRegion Outbound" and line["To Location Type"] == _REGION and line[_TO] != line[_FROM]:
        return line[_TO] or None
    return None
