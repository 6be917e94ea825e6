"""Finds out who has what of which machine when the record of it was lost; `compute` asks, before anything else it does.

Two witnesses: the markers on the machines, and the clusters' records. A machine that answers is believed; of one that
is silent the clusters' records tell. Nothing is ended here: what no cluster owns is listed, and the sweep ends it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from sky.core.model.clusters import Cluster, Instance
from sky.providers.ssh.inventory import Facts, Owner
from sky.providers.ssh.pools import Machine
from sky.providers.ssh.slots import Slot

#: A node's id as we make it: the cluster's, and the rank.
_NODE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,150})-([0-9]{1,6})")
#: What belongs to the node, and not to the way to its machine.
_OF_NODE = ("home", "devices")


def rebuilt(
    machines: Sequence[tuple[Machine, Facts]], clusters: Iterable[Cluster], installation: str
) -> Mapping[str, Slot]:
    """All slots that markers and records speak of, by node. `machines` with what was heard of each just now."""
    heard = {_account(machine.reach) for machine, facts in machines if facts.known and not facts.trouble}
    seen: dict[tuple[str, ...], dict[str, Owner]] = {}
    for machine, facts in machines:
        seen.setdefault(_account(machine.reach), {}).update(_ours(facts, installation))
    slots: dict[str, Slot] = {}
    for slot in _recorded(clusters):
        owner = seen.get(_account(slot.reach), {}).get(slot.node)
        if owner is not None:
            slots[slot.node] = told(slot, owner)
        elif _account(slot.reach) not in heard:
            slots[slot.node] = slot
    for machine, facts in machines:
        if _account(machine.reach) in heard:
            slots.update({slot.node: slot for slot in unknown(machine, facts, slots, installation)})
    return slots


def unknown(machine: Machine, facts: Facts, known: Mapping[str, Slot], installation: str) -> Sequence[Slot]:
    """Slots for nodes of ours that a machine shows and that are not on record."""
    found = []
    for owner in _ours(facts, installation).values():
        parts = _NODE.fullmatch(owner.node)
        # One machine may be in several pools: its node is of the one that it was made in.
        if parts is None or owner.node in known or owner.pool not in ("", machine.pool):
            continue
        bare = Slot(owner.node, "", parts[1], owner.cluster_name or parts[1], int(parts[2]), machine.pool,
                    machine.name, dict(machine.reach), 0.0, 0.0, ip=facts.ip)  # fmt: skip
        found.append(told(bare, owner))
    return found


def firmer(machine: Machine, facts: Facts, known: Mapping[str, Slot]) -> Sequence[Slot]:
    """Slots that only a cluster's record had told of, now that their machine says what they hold."""
    owners = {owner.node: owner for owner in facts.owners}
    here = [slot for slot in known.values() if slot.found and _account(slot.reach) == _account(machine.reach)]
    said = [told(slot, owners[slot.node]) for slot in here if slot.node in owners]
    return [fresh for fresh in said if fresh != known[fresh.node]]


def told(slot: Slot, owner: Owner) -> Slot:
    """A slot that was found, with what the marker on its machine says."""
    return replace(
        slot,
        key=owner.key or slot.key,
        cpus=owner.cpus,
        memory_gb=owner.memory_gb,
        devices=owner.devices,
        whole=owner.whole,
        claimed=True,
        found=True,
    )


def _account(reach: Mapping[str, str]) -> tuple[str, ...]:
    """A home on a machine: what one account shows there says nothing of another's."""
    return (reach["host"], reach.get("port", "22"), reach.get("user", ""))


def _ours(facts: Facts, installation: str) -> dict[str, Owner]:
    return {owner.node: owner for owner in facts.owners if owner.installation == installation}


def _recorded(clusters: Iterable[Cluster]) -> Iterator[Slot]:
    for cluster in clusters:
        site = cluster.site
        if site is not None and site.cloud == "ssh":
            for instance in cluster.instances:
                if "host" in instance.reach:
                    yield _of_record(cluster, site.region, instance)


def _of_record(cluster: Cluster, pool: str, instance: Instance) -> Slot:
    """A node as its cluster's record has it. What it holds is not told there: all of the machine until that speaks."""
    devices = instance.reach.get("devices", "")
    return Slot(
        instance.id,
        "",
        instance.cluster_id,
        cluster.name,
        instance.rank,
        pool,
        instance.machine,
        {key: value for key, value in instance.reach.items() if key not in _OF_NODE},
        0.0,
        0.0,
        tuple(int(each) for each in devices.split(",") if each.isdigit()),
        whole=True,
        ip=instance.ip,
        claimed=True,
        found=True,
    )
