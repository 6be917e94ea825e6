"""What disks and public addresses of Amazon cost beside the machine. `compute` asks when machines are there.

Figures are list prices in USD, each with where it is from and of which day; what is not here is not known, and has no
price in the ledger. Operations and megabytes a second that are bought on top are not known, so such disks have none.
"""

from collections.abc import Mapping

from sky.core.model.machines import MachineSpec
from sky.core.model.offers import Offer
from sky.core.ports import Extras
from sky.providers.aws.launch import disk_of

#: For each public IPv4 address, in use or not, alike in all regions but those of China.
#: https://aws.amazon.com/blogs/aws/new-aws-public-ipv4-address-charge-public-ip-insights/, of 2024-02-01.
_ADDRESS_HOURLY = 0.005
#: Per GB and month by kind and region, 3,000 operations and 125 MB a second included.
#: https://aws.amazon.com/ebs/pricing/, as others repeat it for us-east-1, of 2026-02-24.
_PER_GB_MONTH: Mapping[tuple[str, str], float] = {("gp3", "us-east-1"): 0.08}
#: Hours of a month on average; bills go by those of the month, which differ by some percent.
_MONTH_H = 730.0


def extras(offer: Offer, machine: MachineSpec) -> Extras:
    """Of one machine."""
    size, kind, bought = disk_of(machine)
    rate = None if bought else _PER_GB_MONTH.get((kind, offer.region))
    disk = None if rate is None else size * rate / _MONTH_H
    return Extras(disk, None if offer.region.startswith("cn-") else _ADDRESS_HOURLY)
