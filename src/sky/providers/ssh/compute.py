"""Nodes on machines of pools: folders with a mark on machines that are there already, several on one machine.

A node holds what its task asked for: devices by index for itself alone, processors and memory by count. Each rank of a
cluster is on a machine of its own. Nothing is installed on a machine until a node of it is brought up.
"""

import asyncio
import json
import logging
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace

from sky.core.errors import (
    AgentUnreachable,
    CapacityRefused,
    InvalidSkyPilotConfigError,
    NotSupportedError,
    ProviderDown,
    RequestInvalid,
)
from sky.core.model.clusters import Instance, InstanceState
from sky.core.model.offers import Offer, Placement
from sky.core.ports import Access, CreateAsk, MachineReport, Ran, Shell
from sky.kit.clock import Clock, SystemClock
from sky.providers.registry import Settings
from sky.providers.ssh import machine_scripts as scripts
from sky.providers.ssh.inventory import Facts, Inventory, Owner
from sky.providers.ssh.pools import Machine, Pools, checked
from sky.providers.ssh.recovery import firmer, rebuilt, unknown
from sky.providers.ssh.slots import Ledger, Needs, Room, Slot, beaten, devices, lacks, room

#: Seconds: for a machine to say that its nodes are there, to make one, to end one.
_ASK_S, _CLAIM_S, _END_S = 3.0, 15.0, 30.0
#: Age at which what is known of a machine is asked for again, behind the back of a plan; and of one that was silent.
_FRESH_S, _RETRY_S = 300.0, 30.0
#: Reasons that one refusal tells.
_MOST_REASONS = 12

log = logging.getLogger(__name__)


def open_ssh(settings: Settings) -> "SshCompute":
    """The provider of pools. Raises NotSupportedError where machines cannot be reached."""
    if settings.shell is None:
        raise NotSupportedError("machines of SSH pools cannot be reached by this installation")
    return SshCompute(settings, settings.shell, SystemClock())


class SshCompute:
    """See `core.ports.Compute`, `Unlocks` and `KeepsMachines`. What it keeps is in `settings.state_dir`."""

    def __init__(self, settings: Settings, shell: Shell, clock: Clock) -> None:
        self._pools = Pools(settings)
        self._config = settings.config
        self._clusters = settings.clusters
        self._installation = settings.installation
        self._shell = shell
        self._clock = clock
        self._inventory = Inventory(settings.state_dir / "inventory.json", shell, clock)
        self._ledger = Ledger(settings.state_dir / "slots.json")
        self._recovering = asyncio.Lock()
        self._looking: asyncio.Task[object] | None = None

    # --- what is there -------------------------------------------------------------------------------------------

    async def check(self) -> Access:
        """Look at all machines of all pools; usable if one answers. The account is a line per machine."""
        if not self._pools.exist():
            return Access("ssh", False, "no pools: there is no ~/.sky/ssh_node_pools.yaml", _STEPS, credentials=False)
        try:
            reports = await self.look()
        except (InvalidSkyPilotConfigError, NotSupportedError) as error:
            return Access("ssh", False, str(error), "correct what it names", credentials=True)
        up = [each for each in reports if each.state == "up"]
        lines = "\n".join(_line(each) for each in reports)
        if not up:
            reason = f"none of {len(reports)} machines can be used:\n{lines}"
            return Access("ssh", False, reason, "sky ssh up looks again", credentials=True)
        account = f"{len(up)} of {len(reports)} machines answer\n{lines}"
        return Access("ssh", True, account=account, capabilities=("compute",), credentials=True)

    async def look(self, pool: str | None = None, text: str | None = None) -> Sequence[MachineReport]:
        """See `core.ports.KeepsMachines`."""
        given = self._pools.give(text) if text is not None else []
        names = [pool] if pool is not None else given or list(self._pools.machines())
        machines = [machine for name in names for machine in self._pools.pool(name)]
        if not await self._recover():
            await self._inventory.look(machines)
        await self._take_stock(machines)
        return [self._report(machine) for machine in machines]

    async def forget(self, pool: str | None = None, *, force: bool = False) -> Sequence[str]:
        """See `core.ports.KeepsMachines`."""
        names = [pool] if pool is not None else list(self._pools.machines())
        await self._recover()
        for name in names:
            users = {slot.cluster_name for slot in self._ledger.all() if slot.pool == name and not slot.ending}
            if users and not force:
                raise NotSupportedError(
                    f"the pool {name} is in use by: {', '.join(sorted(users))}. End them first with `sky down`, or say "
                    "--force, which forgets the machines and lets what is on them be."
                )
        for name in names:
            self._inventory.forget(self._pools.pool(name))
            self._ledger.drop([slot.node for slot in self._ledger.all() if slot.pool == name and slot.ending])
            self._pools.take_back(name)
        return names

    async def offers(self) -> Sequence[Offer]:
        """One per pool and kind of machine, with what the emptiest of that kind has free now."""
        pools = self._pools.machines()
        machines = [machine for pool in pools.values() for machine in pool]
        await self._recover()
        unknown = [machine for machine in machines if self._inventory.of(machine) is None]
        if unknown:
            await self._inventory.look(unknown)
        self._look_behind(machines)
        found: dict[tuple[str, str], Offer] = {}
        for machine in machines:
            facts = self._inventory.of(machine)
            if facts is None or not facts.known or facts.trouble:
                continue
            offer = _offer(machine.pool, facts, self._room(machine, facts))
            key = (machine.pool, offer.instance_type)
            if key not in found or _emptiness(found[key]) < _emptiness(offer):
                found[key] = offer
        return list(found.values())

    def secret(self, name: str) -> str | None:
        """A machine's password. See `core.ports.Unlocks`."""
        return self._pools.password(name)

    # --- nodes ---------------------------------------------------------------------------------------------------

    async def create(self, ask: CreateAsk) -> Sequence[Instance]:
        """Find a machine for each node and mark it. Nothing is left of an attempt that fails."""
        await self._recover()
        wanted = set(ask.wanted)
        there = [slot for slot in self._ledger.of(ask.cluster_id, wanted) if slot.key == ask.key and not slot.ending]
        if {slot.rank for slot in there} == wanted and all(slot.claimed for slot in there):
            return await self.list(ask.cluster_id)
        await self.terminate(ask.cluster_id, ranks=ask.ranks or None)
        try:
            config = checked({**self._config(), **ask.config})
        except InvalidSkyPilotConfigError as error:
            raise RequestInvalid(str(error), scope="account") from None
        needs = Needs.of(ask, exclusive=config.get("exclusive") is True)
        refused: dict[tuple[str, str], str] = {}
        try:
            missing: Sequence[int] = sorted(wanted)
            while missing:
                chosen = await self._choose_twice(ask, needs, missing, refused)
                missing = await self._claim_all(chosen, refused)
        except BaseException:
            await asyncio.shield(self.terminate(ask.cluster_id, ranks=ask.ranks or None))
            raise
        return await self.list(ask.cluster_id)

    async def list(
        self, cluster_id: str | None = None, *, regions: Collection[str] | None = None
    ) -> Sequence[Instance]:
        """All nodes on record, as their machines say. One that does not answer has up to a minute to do so."""
        await self._recover()
        slots = [slot for slot in self._ledger.all() if cluster_id in (None, slot.cluster_id)]
        by_place: dict[tuple[str, str], list[Slot]] = {}
        for slot in slots:
            if regions is None or slot.pool in regions:
                by_place.setdefault(slot.place, []).append(slot)
        seen = await asyncio.gather(*(self._states(each) for each in by_place.values()))
        found = [instance for each in seen for instance in each]
        return sorted(found, key=lambda node: (node.cluster_id, node.rank))

    async def terminate(
        self, cluster_id: str, *, regions: Collection[str] | None = None, ranks: Collection[int] | None = None
    ) -> None:
        """End every process and remove the folders. A machine that does not answer is cleaned once it does again."""
        await self._recover()
        slots = self._ledger.of(cluster_id, ranks)
        if slots:
            self._ledger.mark_ending(slots)
            await asyncio.gather(*(self._end(slot) for slot in slots))

    def irreplaceable(self, placement: Placement, config: Mapping[str, object]) -> str:
        """Another machine of the pool takes the place of one that is gone."""
        return ""

    # --- parts ---------------------------------------------------------------------------------------------------

    def _room(self, machine: Machine, facts: Facts) -> Room:
        return room(facts, self._ledger.on(machine), self._installation())

    def _report(self, machine: Machine) -> MachineReport:
        facts = self._inventory.of(machine) or Facts(0.0)
        left = self._room(machine, facts)
        state = "up" if not facts.trouble else "silent" if facts.silent_since is not None else "wrong"
        free = {name: float(len([each for each in facts.devices if each[1] == name and each[0] in left.devices]))
                for name in facts.accelerators}  # fmt: skip
        return MachineReport(
            machine.pool,
            machine.name,
            state,
            facts.trouble,
            facts.cpus,
            left.cpus,
            facts.memory_gb,
            round(left.memory_gb, 1),
            facts.accelerators,
            free,
            left.holders,
        )

    def _look_behind(self, machines: Iterable[Machine]) -> None:
        """Ask again for what is old, without letting anybody wait for it."""
        now = self._clock.now()

        def old(machine: Machine) -> bool:
            facts = self._inventory.of(machine)
            return facts is not None and now - facts.seen > (_RETRY_S if facts.trouble else _FRESH_S)

        stale = [machine for machine in machines if old(machine)]
        if stale and (self._looking is None or self._looking.done()):
            self._looking = asyncio.ensure_future(self._look_again(stale))

    async def _look_again(self, machines: Sequence[Machine]) -> None:
        await self._inventory.look(machines)
        await self._take_stock(machines)

    async def _recover(self) -> bool:
        """Make the record anew where it was lost, from the machines and the clusters' records; whether they were asked.

        Raises ProviderDown where that cannot be done now; nothing is given or ended until it is.
        """
        if self._ledger.known():
            return False
        async with self._recovering:
            if self._ledger.known():
                return False
            try:
                machines = [machine for pool in self._pools.named().values() for machine in pool]
            except InvalidSkyPilotConfigError as error:
                lost = "the record of who has which machine was lost, and cannot be made anew"
                raise ProviderDown(f"{lost}: {error}") from None
            seen = await self._inventory.look(machines) if machines else {}
            clusters = await self._clusters() if self._clusters is not None else ()
            slots = rebuilt([(each, seen[each.key]) for each in machines], clusters, self._installation())
            self._ledger.begin(slots)
            if slots:
                log.warning("the record of who has which machine was made anew: %s", ", ".join(sorted(slots)))
        return True

    async def _choose_twice(
        self, ask: CreateAsk, needs: Needs, ranks: Sequence[int], refused: dict[tuple[str, str], str]
    ) -> Sequence[Slot]:
        """As `_choose`; where there is no room, machines that could not be used before are looked at once more."""
        try:
            return await self._choose(ask, needs, ranks, refused)
        except CapacityRefused:
            machines = self._pools.pool(ask.placement.offer.region)
            doubted = [machine for machine in machines if (facts := self._inventory.of(machine)) and facts.trouble]
            if not doubted:
                raise
            seen = await self._inventory.look(doubted)
            if all(facts.trouble for facts in seen.values()):
                raise
        return await self._choose(ask, needs, ranks, refused)

    async def _choose(
        self, ask: CreateAsk, needs: Needs, ranks: Sequence[int], refused: dict[tuple[str, str], str]
    ) -> Sequence[Slot]:
        """A machine for each rank, on record. Raises CapacityRefused with what speaks against each machine."""
        pool = ask.placement.offer.region
        try:
            machines = self._pools.pool(pool)
        except InvalidSkyPilotConfigError as error:
            raise RequestInvalid(str(error), scope="region") from None
        unknown = [machine for machine in machines if self._inventory.of(machine) is None]
        if unknown:
            await self._inventory.look(unknown)
        with self._ledger.alone():
            # No other create chooses from here to the record of who holds what, also none of another server.
            used = {slot.place for slot in self._ledger.of(ask.cluster_id)}
            fit: dict[tuple[str, str], tuple[Machine, Facts, Room]] = {}
            reasons: dict[str, str] = {}
            for machine in machines:
                facts = self._inventory.of(machine) or Facts(0.0)
                left = self._room(machine, facts)
                why = _against(machine, facts, used, refused) or lacks(needs, facts, left)
                if why is None:
                    fit.setdefault(machine.place, (machine, facts, left))
                else:
                    reasons[machine.name] = why
            if len(fit) < len(ranks):
                raise CapacityRefused(
                    _refusal(pool, len(ask.wanted), len(machines), len(fit) + len(used), reasons), scope="region"
                )
            best = sorted(fit.values(), key=lambda each: _tightness(ask, *each))
            slots = [_slot(ask, needs, rank, *where) for rank, where in zip(ranks, best, strict=False)]
            self._ledger.put(slots)
        return slots

    async def _claim_all(self, slots: Sequence[Slot], refused: dict[tuple[str, str], str]) -> Sequence[int]:
        """Mark the machines; the ranks that have to look for another."""
        why = await asyncio.gather(*(self._claim(slot) for slot in slots))
        lost = [(slot, reason) for slot, reason in zip(slots, why, strict=True) if reason is not None]
        for slot, reason in lost:
            refused[slot.place] = reason
            self._ledger.mark_ending([slot])
        await asyncio.gather(*(self._end(slot) for slot, _ in lost))
        return [slot.rank for slot, _ in lost]

    async def _claim(self, slot: Slot) -> str | None:
        """Mark a machine; why that cannot be had, if so."""
        owner = {
            "node": slot.node,
            "installation": self._installation(),
            "cpus": slot.cpus,
            "memory_gb": slot.memory_gb,
            "devices": list(slot.devices),
            "whole": slot.whole,
            "key": slot.key,
            "cluster_name": slot.cluster_name,
            "pool": slot.pool,
        }
        try:
            ran = await self._script(slot, scripts.CLAIM, slot.node, json.dumps(owner)[:-1], timeout=_CLAIM_S)
        except AgentUnreachable as error:
            self._inventory.unheard(slot.machine_key, str(error))
            return f"does not answer: {error}"
        if ran.rc != 0:
            return f"cannot hold a node: {_said(ran)}"
        ip, owners = _read_claim(ran)
        if all(each.node != slot.node for each in owners):
            return "does not keep what is written to it: is its disk full?"
        self._inventory.heard(slot.machine_key, owners)
        facts = self._inventory.of(Machine(slot.pool, slot.machine, slot.reach)) or Facts(0.0)
        holder = beaten(slot, facts, owners)
        if holder is not None:
            return f"was just taken by {holder}"
        self._ledger.put([replace(slot, ip=ip or facts.ip or slot.reach["host"], claimed=True)])
        return None

    async def _states(self, slots: Sequence[Slot]) -> Sequence[Instance]:
        """The nodes of one machine."""
        first = slots[0]
        try:
            ran = await self._script(first, scripts.STATE, *(slot.node for slot in slots), timeout=_ASK_S)
        except AgentUnreachable as error:
            self._inventory.unheard(first.machine_key, str(error))
            # Out of reach is not ended: its jobs may run on, and nobody may take it for one that stopped itself.
            reason = f"{first.machine} does not answer: {error}"
            return [_instance(slot, InstanceState.PENDING, reason) for slot in slots]
        self._inventory.heard(first.machine_key)
        said = dict(line.split(" ", 1) for line in ran.stdout.decode("utf-8", "replace").splitlines() if " " in line)
        ending = [slot for slot in slots if slot.ending]
        if ending:
            await asyncio.gather(*(self._end(slot) for slot in ending))
        # What was found and is not there was on its way out when it was.
        gone = {slot.node for slot in slots if slot.found and said.get(slot.node) == "gone"}
        if gone:
            self._ledger.drop(gone)
        there = [slot for slot in slots if slot.node not in gone]
        return [_instance(slot, *_STATES.get(said.get(slot.node, ""), _UNCLEAR)) for slot in there]

    async def _end(self, slot: Slot) -> None:
        """End a node, or keep in mind that it is to be ended."""
        try:
            ran = await self._script(slot, scripts.END, slot.node, timeout=_END_S)
        except AgentUnreachable as error:
            self._inventory.unheard(slot.machine_key, str(error))
            log.warning("node %s on %s will be ended once that answers again: %s", slot.node, slot.machine, error)
            return
        if ran.rc != 0:
            raise ProviderDown(f"node {slot.node} on {slot.machine} could not be ended: {_said(ran)}")
        self._inventory.heard(slot.machine_key, self._owners_without(slot))
        self._ledger.drop([slot.node])

    def _owners_without(self, slot: Slot) -> Sequence[Owner]:
        facts = self._inventory.of(Machine(slot.pool, slot.machine, slot.reach))
        return [owner for owner in (facts.owners if facts else ()) if owner.node != slot.node]

    async def _take_stock(self, machines: Iterable[Machine]) -> None:
        """End what is to be ended on machines that answer again, and put on record what they show beside it."""
        answering = {each.place for each in machines if (facts := self._inventory.of(each)) and not facts.trouble}
        left = [slot for slot in self._ledger.all() if slot.ending and slot.place in answering]
        for machine in machines:
            facts = self._inventory.of(machine)
            if facts is not None and not facts.trouble:
                known = {slot.node: slot for slot in self._ledger.all()}
                # Marked as ours and not on record, which is written before a machine is: its record was lost.
                fresh = [*unknown(machine, facts, known, self._installation()), *firmer(machine, facts, known)]
                if fresh:
                    self._ledger.put(fresh)
        ended: Sequence[Coroutine[object, object, None]] = [self._end(slot) for slot in left]
        for failure in await asyncio.gather(*ended, return_exceptions=True):
            if isinstance(failure, Exception):
                log.warning("%s", failure)

    async def _script(self, slot: Slot, script: str, *args: str, timeout: float) -> Ran:
        return await self._shell.run(slot.reach, ["/bin/sh", "-c", script, "sky", *args], timeout=timeout)


_STEPS = (
    "1. Name your machines in ~/.sky/ssh_node_pools.yaml, as `my-pool: {hosts: [host1, host2], user: me}`.\n"
    "2. See what they have: sky ssh up."
)
_STATES: Mapping[str, tuple[InstanceState, str | None]] = {
    "there": (InstanceState.RUNNING, None),
    "ended": (InstanceState.STOPPED, "it has ended itself"),
    "gone": (InstanceState.TERMINATED, "its folder is gone from the machine"),
}
_UNCLEAR = (InstanceState.RUNNING, "its machine answers in a way that is not understood")


def _instance(slot: Slot, state: InstanceState, reason: str | None) -> Instance:
    if slot.ending:
        state = InstanceState.TERMINATED if state is InstanceState.TERMINATED else InstanceState.STOPPING
        reason = f"to be cleaned on {slot.machine}" + (f": {reason}" if reason else "")
    host = slot.reach["host"]
    return Instance(
        id=slot.node,
        cluster_id=slot.cluster_id,
        rank=slot.rank,
        state=state,
        ip=slot.ip or host,
        reach={
            **slot.reach,
            "home": f".sky/nodes/{slot.node}",
            **({"devices": ",".join(map(str, slot.devices))} if slot.devices else {}),
        },
        reason=reason,
        machine=slot.machine,
        external_ip=host if slot.ip and host != slot.ip else None,
    )


def _slot(ask: CreateAsk, needs: Needs, rank: int, machine: Machine, facts: Facts, left: Room) -> Slot:
    cpus, memory, whole = needs.on(facts)
    return Slot(
        f"{ask.cluster_id}-{rank}",
        ask.key,
        ask.cluster_id,
        ask.cluster_name,
        rank,
        machine.pool,
        machine.name,
        dict(machine.reach),
        cpus,
        memory,
        devices(needs, facts, left)[: needs.count],
        whole,
    )


def _against(
    machine: Machine, facts: Facts, used: Collection[tuple[str, str]], refused: Mapping[tuple[str, str], str]
) -> str | None:
    """What speaks against a machine before it is asked what it has."""
    if machine.place in used:
        return "has a node of this cluster already; each node is on a machine of its own"
    if machine.place in refused:
        return refused[machine.place]
    if facts.trouble or not facts.known:
        return f"cannot be used: {facts.trouble or 'it was never looked at'}"
    return None


def _tightness(ask: CreateAsk, machine: Machine, facts: Facts, left: Room) -> tuple[bool, int, float]:
    """Machines of the kind that was planned first; then the fullest, so that empty ones stay whole for others."""
    planned = facts.shape(machine.pool) == ask.placement.offer.instance_type
    return (not planned, len(left.devices), left.cpus)


def _refusal(pool: str, wanted: int, machines: int, fit: int, reasons: Mapping[str, str]) -> str:
    told = [f"{name} {why}" for name, why in list(reasons.items())[:_MOST_REASONS]]
    more = [f"and {len(reasons) - _MOST_REASONS} more"] if len(reasons) > _MOST_REASONS else []
    nodes = "1 node is" if wanted == 1 else f"{wanted} nodes are"
    alone = "; each node of a cluster is on a machine of its own" if wanted > 1 else ""
    return (
        f"{nodes} wanted, {fit} of the {machines} machines of pool {pool} can take one{alone}"
        + (": " if told else "")
        + "; ".join([*told, *more])
    )


def _offer(pool: str, facts: Facts, left: Room) -> Offer:
    free: dict[str, float] = {}
    for index, name, _ in facts.devices:
        if index in left.devices:
            free[name] = free.get(name, 0.0) + 1
    memory = max((size for _, name, size in facts.devices if name == facts.device), default=0.0)
    return Offer(
        cloud="ssh",
        region=pool,
        zone=None,
        instance_type=facts.shape(pool),
        cpus=left.cpus,
        memory_gb=round(left.memory_gb, 1),
        price_hourly=0.0,
        accelerators=free,
        shared=True,
        accelerator_memory_gb=memory or None,
        arch=facts.arch,
    )


def _emptiness(offer: Offer) -> tuple[float, float, float]:
    return (sum(offer.accelerators.values()), offer.cpus, offer.memory_gb)


def _read_claim(ran: Ran) -> tuple[str, Sequence[Owner]]:
    """The machine's address, and who is on it."""
    host = ip = ""
    owners: list[Owner] = []
    for line in ran.stdout.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(" ")
        if key == "host":
            host = value.strip()[:200]
        elif key == "ip":
            ip = value.strip()[:100]
        elif key == "owner" and (owner := Owner.read(value, host)) is not None:
            owners.append(owner)
    return ip, owners


def _said(ran: Ran) -> str:
    return (ran.stderr or ran.stdout).decode("utf-8", "replace").strip()[-500:] or f"exit code {ran.rc}"


def _line(report: MachineReport) -> str:
    """A machine as a line of `sky check ssh`."""
    name = f"{report.pool}/{report.machine}"
    if not report.cpus:
        return f"{name}: {report.state}: {report.detail}"
    free = [f"{report.free_cpus:g}/{report.cpus:g} CPUs", f"{report.free_memory_gb:g}/{report.memory_gb:g} GB"]
    free += [f"{report.free_accelerators.get(kind, 0):g}/{count:g} {kind}"
             for kind, count in report.accelerators.items()]  # fmt: skip
    text = f"{name}: {report.state}, free: {', '.join(free)}"
    text += f"; in use by {', '.join(report.holders[:5])}" if report.holders else ""
    return text + (f"; {report.detail}" if report.detail else "")
