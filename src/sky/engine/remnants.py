"""Removes what was made for a cluster beside its machines and outlived it: disks, groups. Asked by `sweep`."""

import logging
from collections.abc import Collection, Sequence

from sky.core.errors import NotSupportedError, ProviderFailure
from sky.core.ports import Remnant, Remnants

log = logging.getLogger(__name__)

Thing = tuple[str, str, str, str]


class Left:
    """What nobody owned when it was looked for last, by cloud."""

    def __init__(self) -> None:
        self._seen: dict[str, frozenset[Thing]] = {}

    async def remove(
        self,
        cloud: str,
        compute: Remnants,
        owned: Collection[str],
        there: Sequence[Remnant],
        looked: Collection[str] | None,
    ) -> list[Remnant]:
        """Remove what is nobody's for the second time; those that are gone then.

        `owned` are marks of clusters that live, `looked` the regions; what is of no region is always looked at.

        What a machine holds goes with the machine, or is somebody's who took it over: it is left alone.
        """
        strangers = {(each.kind, each.region, each.name, each.mark): each for each in there}
        strangers = {key: each for key, each in strangers.items() if each.mark not in owned and not each.used}
        before = self._seen.get(cloud, frozenset())
        unseen = {key for key in before if looked is not None and key[1] and not key[1].startswith(tuple(looked))}
        self._seen[cloud] = frozenset(strangers) | unseen
        removed = []
        for key in sorted(before & strangers.keys()):
            each = strangers[key]
            log.warning(
                "sweep: removing %s %s in %s on %s: cluster %s is gone",
                each.kind, each.name, each.region, cloud, each.mark,
            )  # fmt: skip
            try:
                await compute.remove_remnant(each)
                removed.append(each)
            except (ProviderFailure, NotSupportedError) as error:
                log.warning("sweep: %s %s on %s is not removed yet: %s", each.kind, each.name, cloud, error)
        return removed
