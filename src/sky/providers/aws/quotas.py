"""How many more machines the account may have: Service Quotas counts vCPUs by group of families and by market."""

import asyncio
from collections.abc import Sequence

from sky.core.errors import ProviderFailure
from sky.core.model.offers import Offer
from sky.providers.aws.clients import Answer, Clients
from sky.providers.aws.images import family
from sky.providers.aws.instances import ENDED, state_of

#: Families by the beginning of their names, longest first where one begins like another; then on demand, then spot.
_CODES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("trn",), "L-2C3B7624", "L-6B0D517C"),
    (("inf",), "L-1945791B", "L-B5D1601B"),
    (("dl",), "L-6E869C2A", "L-85EED4F7"),
    (("hpc",), "L-F7808C92", ""),
    (("u-", "u7", "u6"), "L-43DA4232", ""),
    (("vt", "g"), "L-DB2E81BA", "L-3819A6DF"),
    (("p5", "p6"), "L-417A185B", "L-C4BD4855"),
    (("p",), "L-417A185B", "L-7212CCBC"),
    (("mac",), "", ""),
    (("x",), "L-7295265B", "L-E3A00192"),
    (("f",), "L-74FC7D96", "L-88CF9481"),
    (("a", "c", "d", "h", "i", "m", "r", "t", "z"), "L-1216C47A", "L-34B43A08"),
)
_ANSWER_S = 8.0
#: Seconds for which a quota, and what is used of it, is believed.
_FRESH_S = 60.0
#: Types that one call may ask for.
_MOST_TYPES = 100
_STATES = ["pending", "running"]


def quota_code(instance_type: str, use_spot: bool) -> str:
    """The code of the quota that counts this type; empty where none is known."""
    name = family(instance_type).lower()
    for beginnings, on_demand, spot in _CODES:
        if name.startswith(beginnings):
            return spot if use_spot else on_demand
    return ""


class Room:
    """See `core.ports.Quotas`."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: dict[tuple[str, str], tuple[float, float | None]] = {}

    async def of(self, offer: Offer) -> int | None:
        """Nodes of this offer that may still be made."""
        code = quota_code(offer.instance_type, offer.use_spot)
        if not code or offer.cpus <= 0:
            return None
        key, now = (offer.region, code), self._clients.clock.now()
        if key not in self._known or self._known[key][0] < now - _FRESH_S:
            self._known[key] = (now, await self._free(offer.region, code))
        free = self._known[key][1]
        return None if free is None else max(0, int(free // offer.cpus))

    async def _free(self, region: str, code: str) -> float | None:
        """vCPUs that are left; None where the account may not ask, or the answer is slow."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                told, machines = await asyncio.gather(self._quota(region, code), self._machines(region))
                used = await self._cpus(region, [raw for raw in machines if _counts(raw, code)])
        except (TimeoutError, ProviderFailure):
            return None
        return None if told is None else told - used

    async def _quota(self, region: str, code: str) -> float | None:
        asked = {"ServiceCode": "ec2", "QuotaCode": code}
        told = (await self._clients.call("service-quotas", region, "GetServiceQuota", asked)).get("Quota") or {}
        value = told.get("Value")
        return float(value) if isinstance(value, int | float) else None

    async def _machines(self, region: str) -> Sequence[Answer]:
        filters = [{"Name": "instance-state-name", "Values": _STATES}]
        found = await self._clients.pages(region, "DescribeInstances", "Reservations", Filters=filters)
        return [raw for each in found for raw in each.get("Instances") or ()]

    async def _cpus(self, region: str, machines: Sequence[Answer]) -> int:
        """vCPUs of machines: as each tells them, or as its type has them."""
        told = [(str(raw.get("InstanceType", "")), raw.get("CpuOptions") or {}) for raw in machines]
        missing = sorted({name for name, cpus in told if "CoreCount" not in cpus})[:_MOST_TYPES]
        by_type: dict[str, int] = {}
        if missing:
            answer = await self._clients.ec2(region, "DescribeInstanceTypes", InstanceTypes=missing)
            for raw in answer.get("InstanceTypes") or ():
                by_type[str(raw.get("InstanceType"))] = int((raw.get("VCpuInfo") or {}).get("DefaultVCpus") or 0)
        return sum(
            int(cpus["CoreCount"]) * int(cpus.get("ThreadsPerCore") or 1)
            if "CoreCount" in cpus
            else by_type.get(name, 0)
            for name, cpus in told
        )


def _counts(raw: Answer, code: str) -> bool:
    spot = raw.get("InstanceLifecycle") == "spot"
    return state_of(raw) not in ENDED and quota_code(str(raw.get("InstanceType", "")), spot) == code
