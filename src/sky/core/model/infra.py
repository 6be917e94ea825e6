"""The ``infra`` of a task: where it may run, from "anywhere" down to one zone.

``Resources`` holds one; the optimizer and the providers match offers against it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sky.core.model.clouds import cloud_named

#: Names whose second part may itself contain slashes, so nothing after it is split off.
_REGION_TAKES_ALL = frozenset({"kubernetes"})

#: Names of places that have at most so many parts after the name; the others have two, region and zone.
_PARTS_AFTER = {"local": 0, "ssh": 1}


@dataclass(frozen=True, slots=True)
class Infra:
    """A place, each part ``None`` when it is left open.

    cloud: canonical name (``aws``, ``kubernetes``, ``local``). region: region, Kubernetes context, SSH pool or Slurm
    cluster. zone: zone or Slurm partition.
    """

    cloud: str | None = None
    region: str | None = None
    zone: str | None = None

    @classmethod
    def parse(cls, text: str) -> Infra:
        """Read ``aws/us-east-1/us-east-1a``, ``*/us-east-1``, ``k8s/a/context``, ``ssh/pool``; ``*`` is open.

        Raises ``ValueError`` for an unknown cloud, an empty part or a part too many.
        """
        text = text.strip()
        head, *rest = text.split("/")
        cloud = None if head in ("", "*") else cloud_named(head).canonical_name()
        if head == "" and rest:
            raise ValueError(
                f"found the infra '{text[:60]}' without a cloud; allowed: cloud, cloud/region, cloud/region/zone"
            )
        if cloud in _REGION_TAKES_ALL and rest:
            rest = ["/".join(rest)]
        most = _PARTS_AFTER.get(cloud or "", 2)
        if len(rest) > most:
            form = "/".join([cloud or "cloud", "region", "zone"][: most + 1])
            raise ValueError(f"found the infra '{text[:60]}' with {len(rest) + 1} parts; allowed: at most {form}")
        if any(not part.strip() for part in rest):
            raise ValueError(f"found the infra '{text[:60]}' with an empty part; allowed: * for a part left open")
        region, zone = [*(None if part == "*" else part for part in rest), None, None][:2]
        return cls(cloud, region, zone)

    @classmethod
    def of(cls, cloud: str | None, region: str | None = None, zone: str | None = None) -> Infra:
        """Build from the old separate fields; raises ``ValueError`` for an unknown cloud."""
        return cls(
            cloud_named(cloud).canonical_name() if cloud and cloud != "*" else None, region or None, zone or None
        )

    def to_str(self) -> str | None:
        """Return the text that ``parse`` reads back, or ``None`` when every part is open."""
        parts = [self.cloud, self.region, self.zone]
        while parts and parts[-1] is None:
            parts.pop()
        return "/".join(part or "*" for part in parts) or None

    def __str__(self) -> str:
        return self.to_str() or "*"

    def covers(self, other: Infra) -> bool:
        """Say whether ``other`` lies within this place."""
        pairs = ((self.cloud, other.cloud), (self.region, other.region), (self.zone, other.zone))
        return all(mine is None or mine == its for mine, its in pairs)
