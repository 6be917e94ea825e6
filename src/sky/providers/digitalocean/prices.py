"""What DigitalOcean sells: droplets by region, from its API with the token that doctl keeps.

Found by the manifest.
"""

from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, key, number, same_origin, text, wanted

_API = "https://api.digitalocean.com"
_MOST_PAGES = 50
_MIB_OF_A_GIB = 1024


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Sizes that can be had, by region. See `core.ports.PriceSource`."""
    secret = key(
        "do",
        env=("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"),
        file="~/.config/doctl/config.yaml",
        pattern=r"^access-token:\s*[\"']?([^\s\"']+)",
    )
    base, only = endpoint(ask, _API), wanted(ask)
    url = f"{base}/v2/sizes?per_page=200"
    reading = Reading("do", url, ask, Quality.LIVE)
    asked: set[str] = set()
    while url:
        asked.add(url)
        with web.get(url, headers={"Authorization": f"Bearer {secret}"}) as reply:
            page = fields(reply.json())
        if not isinstance(page.get("sizes"), list):
            raise reading.malformed("list of sizes")
        for size in map(fields, entries(page["sizes"])):
            if size.get("available") is not False:
                yield from _size(reading, size, only)
        url = text(fields(fields(page.get("links")).get("pages")).get("next"))
        if url and (url in asked or len(asked) >= _MOST_PAGES or not same_origin(url, base)):
            raise reading.malformed("end of its pages")
    yield from reading.end()


def _size(reading: Reading, size: Mapping[str, object], only: frozenset[str] | None) -> Iterator[Row]:
    named, memory, gpu = text(size.get("slug")), number(size.get("memory"), 1e9), fields(size.get("gpu_info"))
    count, model = number(gpu.get("count"), 64), text(gpu.get("model"))
    yield from reading.type(
        named, size.get("vcpus"), memory / _MIB_OF_A_GIB if memory else None,
        # `nvidia_rtx6000_ada`: the maker comes first.
        accelerator=model.partition("_")[2] or model or None if count else None, count=count,
        device_gib=_device_gib(named, count, number(fields(gpu.get("vram")).get("amount"), 1e5)),
        disk_gb=size.get("disk"), disk_kind="ssd", family=named.partition("-")[0],
    )  # fmt: skip
    for region in entries(size.get("regions")):
        if only is None or region in only:
            yield from reading.price(named, region, size.get("price_hourly"))


def _device_gib(named: str, count: float | None, told: float | None) -> float | None:
    """GiB of one device: the figure is the total where the name of the size ends with it (`gpu-h100x8-640gb`)."""
    if count is None or told is None:
        return None
    if count == 1:
        return told
    return told / count if named.endswith(f"-{told:g}gb") else None
