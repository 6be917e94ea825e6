"""A plane whose places and accelerators are those of a small market; `python -m sky.server --plane` builds it."""

from collections.abc import Sequence
from dataclasses import replace

from small_plane import SmallPlane

from sky.core.model.catalog import Quality
from sky.core.model.offers import Offer
from sky.core.ports import Access
from sky.kit.clock import SystemClock
from sky.providers.registry import Registry
from sky.server.settings import Settings

_H100 = Offer(
    "aws",
    "us-east-1",
    None,
    "p5.48xlarge",
    192,
    2048,
    55.04,
    {"H100": 8},
    accelerator_memory_gb=80,
    quality=Quality.LIST,
    source="https://prices.example/aws",
)


class MarketPlane(SmallPlane):
    """Places as the registry checks them in this process's home, and a few offers seen two days ago."""

    async def check(self, clouds: Sequence[str] | None) -> list[Access]:
        known = Registry(self.settings.state_dir, lambda cloud: {})
        return [await known.check(cloud) for cloud in clouds or known.places()]

    async def offers(self) -> list[Offer]:
        seen = SystemClock().now() - 2 * 86400
        sold = [
            _H100,
            replace(_H100, use_spot=True, price_hourly=17.5),
            replace(_H100, region="eu-north-1", price_hourly=61.0),
            replace(_H100, cloud="lambda", instance_type="gpu_8x_h100", price_hourly=23.92, quality=Quality.ESTIMATE),
            replace(_H100, cloud="gcp", instance_type="tpu", accelerators={"tpu-v5e-8": 1}, price_hourly=9.6),
            replace(_H100, cloud="vast", instance_type="x", accelerators={"RTX4090": 0.5}, price_hourly=0.2),
        ]
        return [replace(each, observed=seen) for each in sold]


def build(settings: Settings) -> MarketPlane:
    """A plane of the market."""
    return MarketPlane(settings)
