"""Who has what of which machine: the record of this server's nodes in pools, and what is left for others.

The record is written before a machine is touched, so that a crash leaves nothing that cannot be found again. Nodes of
other servers on the same machines are known by their `owner.json` there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from sky.core.errors import ProviderDown
from sky.core.ports import CreateAsk
from sky.kit.turns import Turn
from sky.providers.records import Stamp, alone, save, stamp
from sky.providers.ssh.inventory import Facts, Owner
from sky.providers.ssh.pools import Machine

log = logging.getLogger(__name__)

#: What a node gets of a shared machine where the task leaves it open: the interface's defaults for pools; but never
#: more than its devices' share, so that processors are not used up before the devices are.
_CPUS, _CPUS_PER_DEVICE = 2.0, 4.0
_MEMORY_PER_CPU, _MEMORY_PER_CPU_WITH_DEVICES = 1.0, 4.0
_SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Slot:
    """One node's part of a machine. `ending`: its cluster is gone, the machine could not be told yet.

    `found`: it is on record because a machine or a cluster's record told of it, and not because it was made by it.
    """

    node: str
    key: str
    cluster_id: str
    cluster_name: str
    rank: int
    pool: str
    machine: str
    reach: Mapping[str, str]
    cpus: float
    memory_gb: float
    devices: tuple[int, ...] = ()
    whole: bool = False
    ip: str = ""
    claimed: bool = False
    ending: bool = False
    found: bool = False

    @property
    def place(self) -> tuple[str, str]:
        """Where the machine is; see `Machine.place`."""
        return (self.reach["host"], self.reach.get("port", "22"))

    @property
    def machine_key(self) -> str:
        """The machine's name among all pools."""
        return f"{self.pool}/{self.machine}"


@dataclass(frozen=True, slots=True)
class Needs:
    """What one node takes. `None` is what was left open."""

    cpus: float | None
    memory_gb: float | None
    device: str | None
    count: int
    exclusive: bool = False

    @classmethod
    def of(cls, ask: CreateAsk, *, exclusive: bool) -> Needs:
        """What is asked for."""
        placement = ask.placement
        name, count = next(iter(placement.accelerators.items()), (None, 0.0))
        return cls(placement.asked_cpus or None, placement.asked_memory_gb or None, name, int(count), exclusive)

    def on(self, facts: Facts) -> tuple[float, float, bool]:
        """CPUs, GiB and whether it is all of a machine: what is taken of this one."""
        there = facts.accelerators.get(self.device or "", 0.0)
        share = min(1.0, self.count / there) if self.count and there else 1.0
        cpus = self.cpus or min(_CPUS_PER_DEVICE * self.count or _CPUS, facts.cpus * share)
        per_cpu = _MEMORY_PER_CPU_WITH_DEVICES if self.count else _MEMORY_PER_CPU
        memory = self.memory_gb or min(cpus * per_cpu, facts.memory_gb * share)
        every = bool(self.count) and self.count >= there
        whole = self.exclusive or every or (self.cpus is not None and self.cpus >= facts.cpus - _SLACK)
        return cpus, memory, whole


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of a machine. `holders` say by whom the rest is held."""

    cpus: float
    memory_gb: float
    devices: tuple[int, ...]
    holders: tuple[str, ...] = field(default=())
    untouched: bool = True
    taken_whole: bool = False


def room(facts: Facts, slots: Iterable[Slot], installation: str) -> Room:
    """What this server's slots and the nodes of others leave of a machine."""
    mine = list(slots)
    others = [owner for owner in facts.owners if owner.installation != installation]
    known = {slot.node for slot in mine}
    # Of ours, but not on record: left by a crash, or by a record that was lost. It holds what it holds.
    others += [owner for owner in facts.owners if owner.installation == installation and owner.node not in known]
    held: list[Slot | Owner] = [*mine, *others]
    gone = {index for each in held for index in each.devices}
    names = [f"cluster {slot.cluster_name}" + (" (to be cleaned)" if slot.ending else "") for slot in mine]
    names += [f"node {owner.node} of another server" for owner in others]
    whole = any(each.whole for each in held)
    free = tuple(index for index, _, _ in facts.devices if index not in gone)
    return Room(
        0.0 if whole else max(0.0, facts.cpus - sum(each.cpus for each in held)),
        0.0 if whole else max(0.0, facts.memory_gb - sum(each.memory_gb for each in held)),
        () if whole else free,
        tuple(dict.fromkeys(names)),
        not held,
        whole,
    )


def lacks(needs: Needs, facts: Facts, left: Room) -> str | None:
    """Why a node does not fit on a machine now, in words; None if it does."""
    cpus, memory, whole = needs.on(facts)
    by = f", the rest is held by {', '.join(left.holders[:5])}" if left.holders else ""
    if needs.count and needs.device not in facts.accelerators:
        return f"has no {needs.device}"
    if left.taken_whole or (whole and not left.untouched):
        return f"is in use by {', '.join(left.holders[:5])}" + ("" if left.taken_whole else ", and all of it is wanted")
    free = len(devices(needs, facts, left))
    if free < needs.count:
        return f"has {free} of {facts.accelerators.get(needs.device or '', 0):g} {needs.device} free{by}"
    if left.cpus < cpus - _SLACK:
        return f"has {left.cpus:g} of {facts.cpus:g} CPUs free{by}; {cpus:g} are wanted"
    if left.memory_gb < memory - _SLACK:
        return f"has {left.memory_gb:.3g} of {facts.memory_gb:.3g} GB of memory free{by}; {memory:.3g} are wanted"
    return None


def devices(needs: Needs, facts: Facts, left: Room) -> tuple[int, ...]:
    """Free devices of the wanted kind."""
    kind = {index for index, name, _ in facts.devices if name == needs.device}
    return tuple(index for index in left.devices if index in kind)


def beaten(slot: Slot, facts: Facts, owners: Sequence[Owner]) -> str | None:
    """Whether a claim came too late: who holds what it wants. `owners` oldest first, with the slot's own among them.

    All who claim at the same time see the same order, so that exactly one of them is not beaten.
    """
    before = []
    for owner in owners:
        if owner.node == slot.node:
            break
        before.append(owner)
    clash = [each for each in before if each.whole or slot.whole or set(each.devices) & set(slot.devices)]
    if not clash:
        cpus = sum(each.cpus for each in before) + slot.cpus
        memory = sum(each.memory_gb for each in before) + slot.memory_gb
        if cpus <= facts.cpus + _SLACK and memory <= facts.memory_gb + _SLACK:
            return None
        clash = before
    return ", ".join(each.node for each in clash[:5])


class Ledger:
    """The slots on record; every change is on disk before it is acted upon.

    A record that is not there, or cannot be read, is unknown until `begin`; an empty one is known.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slots: dict[str, Slot] | None = None
        self._seen: Stamp | None = None
        self._turn: Turn | None = None

    def known(self) -> bool:
        """Whether there is a record; one that cannot be read is put aside."""
        self._look()
        return self._slots is not None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """From a look to the change that follows from it, during which no other server looks so; waits for nothing."""
        if self._turn is not None:
            yield
            return
        with alone(self._path) as taken:
            self._turn = taken
            try:
                yield
            finally:
                self._turn = None

    def begin(self, slots: Mapping[str, Slot]) -> None:
        """The record is this from now on, unless another server has begun one."""
        with self.alone():
            if not self.known():
                self._slots = dict(slots)
                self._write()

    def all(self) -> Sequence[Slot]:
        """All of them, by cluster and rank. Raises ProviderDown while the record is unknown."""
        return sorted(self._known().values(), key=lambda slot: (slot.cluster_id, slot.rank))

    def of(self, cluster_id: str, ranks: Iterable[int] | None = None) -> Sequence[Slot]:
        """Those of a cluster, by rank."""
        wanted = None if ranks is None else set(ranks)
        found = [slot for slot in self.all() if slot.cluster_id == cluster_id]
        return [slot for slot in found if wanted is None or slot.rank in wanted]

    def on(self, machine: Machine) -> Sequence[Slot]:
        """Those on a machine, whichever pool they came by."""
        return [slot for slot in self.all() if slot.place == machine.place]

    def put(self, slots: Iterable[Slot]) -> None:
        """Add or replace."""
        with self.alone():
            self._slots = {**self._known(), **{slot.node: slot for slot in slots}}
            self._write()

    def drop(self, nodes: Iterable[str]) -> None:
        """Take away."""
        gone = set(nodes)
        with self.alone():
            self._slots = {node: slot for node, slot in self._known().items() if node not in gone}
            self._write()

    def mark_ending(self, slots: Iterable[Slot]) -> None:
        """Keep in mind that these are to be cleaned."""
        self.put(replace(slot, ending=True) for slot in slots)

    def _known(self) -> dict[str, Slot]:
        if not self.known():
            # Without it, machines could be given twice, or what runs there be ended: nobody guesses here.
            raise ProviderDown(f"the record of who has which machine is not there: {self._path}")
        return self._slots or {}

    def _look(self) -> None:
        """Read the record if another server has changed it, or if it was not read yet."""
        now = stamp(self._path)
        if self._slots is None or (now is not None and now != self._seen):
            self._slots, self._seen = self._load(), now

    def _load(self) -> dict[str, Slot] | None:
        try:
            rows = json.loads(self._path.read_bytes())
            found = [Slot(**{**row, "devices": tuple(row["devices"])}) for row in rows]
            return {slot.node: slot for slot in found}
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            aside = self._path.with_suffix(".damaged")
            log.warning("the record of who has which machine cannot be read, and is put aside as %s: %s", aside, error)
            self._path.replace(aside)
            return None
        except OSError as error:
            raise ProviderDown(f"the record of who has which machine cannot be read: {self._path}: {error}") from None

    def _write(self) -> None:
        slots = sorted((self._slots or {}).values(), key=lambda slot: (slot.cluster_id, slot.rank))
        self._seen = None
        save(self._path, [asdict(slot) for slot in slots], self._turn)
        self._seen = stamp(self._path)
