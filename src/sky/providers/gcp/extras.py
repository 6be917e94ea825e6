"""What disks of Google Cloud cost beside the machine. `compute` asks when machines are there.

Figures are list prices in USD, each with where it is from and of which day. What is not here is not known, and has no
price in the ledger: other regions, disks with speed bought on top, public addresses.
"""

from collections.abc import Mapping

from sky.core.errors import ProviderFailure
from sky.core.model.machines import MachineSpec
from sky.core.model.offers import Offer
from sky.core.ports import Extras
from sky.providers.gcp import shapes

#: Per GiB and month by kind, of us-central1. https://cloud.google.com/compute/disks-image-pricing as read in public
#: copies of 2026-11-22; the balanced one as https://c3x.dev/blog/gcp-persistent-disk-types-cost/ repeats it.
_PER_GB_MONTH: Mapping[str, float] = {"pd-standard": 0.04, "pd-balanced": 0.10, "pd-ssd": 0.17}
_REGION = "us-central1"
#: Hours of a month on average; bills go by those of the month, which differ by some percent.
_MONTH_H = 730.0


def extras(offer: Offer, machine: MachineSpec) -> Extras:
    """Of one machine. TPUs have their disks in their price."""
    if offer.region != _REGION or shapes.is_tpu(offer):
        return Extras()
    try:
        chosen = shapes.disk(shapes.shape(offer), machine.disk_tier, f"{_REGION}-a")
    except ProviderFailure:
        return Extras()
    rate = _PER_GB_MONTH.get(str(chosen.get("diskType", "")).rpartition("/")[2])
    return Extras(None if rate is None else machine.disk_size_gb * rate / _MONTH_H)
