"""Machines of Amazon Web Services: the verbs. Opened by the registry; see the README of this folder."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial

from sky.core.errors import CapacityRefused, NotSupportedError, ProviderDown, ProviderFailure, RequestInvalid
from sky.core.errors import InvalidSkyPilotConfigError as ConfigError
from sky.core.model.clusters import Instance, InstanceState
from sky.core.model.ledger import Span
from sky.core.model.machines import MachineSpec
from sky.core.model.offers import Offer, Placement
from sky.core.ports import Access, CreateAsk, DiskImage, Extras, Remnant
from sky.kit.backoff import delays
from sky.kit.clock import Clock
from sky.kit.together import together
from sky.providers import credentials
from sky.providers.aws import charges, instances, marks, network, remnants
from sky.providers.aws.clients import Answer, Clients
from sky.providers.aws.config import read
from sky.providers.aws.disks import Disks
from sky.providers.aws.errors import died_of, is_missing
from sky.providers.aws.extras import extras
from sky.providers.aws.instances import ENDED, Machines, ids, rank_of, state_of, zone_of
from sky.providers.aws.launching import Before, Launcher, end_named
from sky.providers.aws.network import Network, Owner
from sky.providers.aws.quotas import Room
from sky.providers.registry import Settings

log = logging.getLogger(__name__)

#: Seconds for machines to end, to stop and to start; what EC2 needs is less than a minute for most, and more for metal.
_ENDS_S, _STOPS_S, _STARTS_S = 300.0, 180.0, 600.0
#: Times that what a failed launch left is tried to be removed.
_TIDYING = 5
_LIVE = ("pending", "running", "stopping", "stopped")


def open_aws(settings: Settings) -> "AwsCompute":
    """The provider of Amazon's machines."""
    return AwsCompute(settings)


class AwsCompute:
    """See `core.ports`: `Compute` and, of the optional ones, all but `Unlocks` and `KeepsMachines`."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clients = Clients(settings, clock)
        self._network = Network(self._clients)
        self._machines = Machines(self._clients, settings.keys)
        self._launcher = Launcher(self._clients, self._network, self._machines, settings.keys)
        self._room = Room(self._clients)
        self._disks = Disks(self._clients)
        self._tidying: set[asyncio.Task[None]] = set()

    # --- who asks ------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let go of what it holds; a server stops."""
        await self._clients.close()

    async def check(self) -> Access:
        """Whether this user's credentials are found and taken, and whose they are."""
        from sky.providers.aws.manifest import MANIFEST  # noqa: PLC0415 - it names this module

        steps = "\n".join(f"{number}. {step}" for number, step in enumerate(MANIFEST.fix, 1))
        try:
            account, user = await self._clients.identity()
        except ConfigError as error:
            return Access("aws", False, str(error), "correct the aws section of the configuration")
        except ProviderFailure as error:
            return self._refused(error, steps)
        found = f"{account} ({user})"
        return Access("aws", True, account=found, capabilities=MANIFEST.capabilities, credentials=True)

    def _refused(self, error: ProviderFailure, steps: str) -> Access:
        """What is known of credentials that are missing, or that Amazon does not take."""
        from sky.providers.aws.manifest import MANIFEST  # noqa: PLC0415 - as above

        where = credentials.found(MANIFEST.credentials, self._settings.environment, self._settings.home)
        if not is_missing(error):
            return Access("aws", False, error.reason, steps, credentials=True)
        if where is None:
            reason = f"no credentials: looked in {credentials.looked(MANIFEST.credentials)}"
            return Access("aws", False, reason, steps, credentials=False)
        reason = f"credentials found in {where}, and not for the profile that is used; choose one with AWS_PROFILE"
        return Access("aws", False, reason, steps, credentials=True)

    async def identity(self) -> str:
        """Account and user, of whatever credentials are found now."""
        account, user = await self._clients.identity()
        return f"{account}:{user}"

    async def regions(self) -> Sequence[str]:
        """Regions that the account has switched on."""
        return await self._clients.regions()

    async def offers(self) -> Sequence[Offer]:
        """Nothing: the catalog knows what Amazon sells."""
        return ()

    async def room(self, offer: Offer) -> int | None:
        """Nodes that the quota of the offer's family leaves in its region."""
        return await self._room.of(offer)

    # --- life and death ------------------------------------------------------------------------------------------

    async def create(self, ask: CreateAsk) -> Sequence[Instance]:
        """Make the nodes, or find those that this key made before. Nothing is left of an attempt that fails."""
        try:
            config = read({**self._settings.config(), **ask.config})
        except ConfigError as error:
            raise RequestInvalid(str(error), scope="account") from None
        region, installation = ask.placement.offer.region, self._settings.installation()
        found = [
            raw for raw in await self._machines.of(region, installation, ask.cluster_id) if rank_of(raw) in ask.wanted
        ]
        key, made = marks.digest(ask.key, ask.cluster_id), list[str]()
        kept = _kept(found, key)
        try:
            await self._end(region, [raw for raw in found if state_of(raw) in _LIVE and raw not in kept])
            if len(kept) == len(ask.wanted):
                await self._machines.until(region, ids(kept), "running", seconds=_STARTS_S)
                made += ids(kept)
            else:
                used = sum(marks.read(raw.get("Tags")).get(marks.KEY) == key for raw in found)
                await self._launcher.launch(ask, config, installation, Before(kept, used), made)
            return await self._whole(region, ask, made)
        except BaseException as error:
            # A gang that came up in part is no use to anybody; cancelled or refused, it goes.
            await self._take_back(ask, made, error)
            raise

    async def _whole(self, region: str, ask: CreateAsk, made: Collection[str]) -> Sequence[Instance]:
        """All nodes that the cluster has; the listing may lag behind what is known to run.

        What an attempt that was cut short made, and no list had when this one began, is listed by now, and goes.
        """
        until = self._clients.clock.now() + _STOPS_S
        for pause in delays(0.25, factor=1.5, ceiling=5.0):
            found = await self._machines.of(region, self._settings.installation(), ask.cluster_id)
            shown = self._machines.listed(region, found, read(self._settings.config()))
            running = {each.rank for each in shown if each.state is InstanceState.RUNNING}
            doubles = [
                raw
                for raw in found
                if state_of(raw) in _LIVE and rank_of(raw) in ask.wanted and raw.get("InstanceId") not in made
            ]
            if running.issuperset(ask.wanted) and not doubles:
                return shown
            await self._end(region, doubles)
            if self._clients.clock.now() > until:
                raise CapacityRefused(f"{len(ask.wanted)} machines were made, and {len(running)} run")
            await self._clients.clock.sleep(pause)
        raise AssertionError("delays do not end")

    async def list(
        self, cluster_id: str | None = None, *, regions: Collection[str] | None = None
    ) -> Sequence[Instance]:
        """Machines with this installation's mark, by cluster and rank; those that died by themselves, with the reason.

        Machines that were ended by order are not listed.
        """
        config, installation = read(self._settings.config()), self._settings.installation()
        answers = await self._clients.everywhere(
            regions, lambda region: self._machines.of(region, installation, cluster_id)
        )
        return [each for region, found in answers for each in self._machines.listed(region, found, config)]

    async def terminate(
        self, cluster_id: str, *, regions: Collection[str] | None = None, ranks: Collection[int] | None = None
    ) -> None:
        """End the nodes, and with the last of them the cluster's security group and placement group."""

        async def one(region: str) -> None:
            there = await self._there(region, cluster_id)
            wanted = there if ranks is None else [raw for raw in there if rank_of(raw) in ranks]
            await self._end(region, wanted)
            if ranks is None:
                await self._network.remove(region, self._owner(cluster_id))

        await self._clients.everywhere(regions, one)

    async def stop(self, cluster_id: str, *, regions: Collection[str] | None = None) -> Sequence[Instance]:
        """Stop what runs; disks stay. Spot machines cannot be stopped, which EC2 refuses."""

        async def one(region: str) -> None:
            there = await self._there(region, cluster_id)
            if going := ids(raw for raw in there if state_of(raw) in ("pending", "running")):
                await self._clients.ec2(region, "StopInstances", InstanceIds=going)
            await self._until(region, there, "stopped", _STOPS_S)

        return await self._each(cluster_id, regions, one)

    async def end_on_shutdown(self, cluster_id: str, ends: bool, *, regions: Collection[str] | None = None) -> None:
        """Say of each machine whether it ends or stops when it is shut down from inside. Spot machines always end."""

        async def one(region: str) -> None:
            there = [raw for raw in await self._there(region, cluster_id) if raw.get("InstanceLifecycle") != "spot"]
            await together(self._machines.end_on_shutdown(region, machine, ends) for machine in ids(there))

        await self._clients.everywhere(regions, one)

    def unstoppable(
        self, offer: Offer, config: Mapping[str, object] | None = None, made: Sequence[Instance] = ()
    ) -> str | None:
        """Spot machines: EC2 ends them where it would stop others."""
        return "spot machines of AWS cannot be stopped, only ended; use `sky down` instead" if offer.use_spot else None

    async def start(self, cluster_id: str, *, regions: Collection[str] | None = None) -> Sequence[Instance]:
        """Start what is stopped, all or none. Public addresses are new ones."""

        async def one(region: str) -> None:
            there = await self._there(region, cluster_id)
            await self._until(region, [raw for raw in there if state_of(raw) == "stopping"], "stopped", _STOPS_S)
            off = ids(raw for raw in there if state_of(raw) in ("stopping", "stopped"))
            try:
                if off:
                    await self._clients.ec2(region, "StartInstances", InstanceIds=off)
                for raw in await self._until(region, there, "running", _STARTS_S):
                    if state_of(raw) != "running":
                        code, said = instances.reason_of(raw)
                        raise died_of(code or "InsufficientInstanceCapacity", said or "it does not start")
            except BaseException as error:
                await self._aside(partial(self._stop_again, region, off), error)
                raise

        nodes = await self._each(cluster_id, regions, one)
        if not nodes:
            raise CapacityRefused("the cluster's machines are gone from AWS", scope="request")
        return nodes

    # --- more ----------------------------------------------------------------------------------------------------

    async def open_ports(
        self, cluster_id: str, ports: Sequence[str], *, regions: Collection[str] | None = None
    ) -> None:
        """Let ports in, by the cluster's own security group."""

        async def one(region: str) -> None:
            there = await self._there(region, cluster_id)
            vpcs = {str(raw.get("VpcId")) for raw in there if raw.get("VpcId")}
            for vpc in sorted(vpcs):
                group = await self._network.open_ports(region, vpc, self._owner(cluster_id), ports)
                inside = [raw for raw in there if raw.get("VpcId") == vpc]
                await network.attach(self._clients, region, inside, group)

        await self._clients.everywhere(regions, one)

    async def image_of(self, cluster_id: str, key: str, *, regions: Collection[str] | None = None) -> str:
        """Make an image of the head's disk; it may take many minutes until it is ready, by the size of the disk."""
        answers = await self._clients.everywhere(regions, lambda region: self._there(region, cluster_id))
        heads = [(region, raw) for region, found in answers for raw in found if rank_of(raw) == 0]
        if not heads:
            raise NotSupportedError(f"cluster {cluster_id} has no head machine on AWS whose disk could be cloned")
        region, head = heads[0]
        return await self._disks.make(region, self._owner(cluster_id), str(head.get("InstanceId")), key)

    async def images(self, *, regions: Collection[str] | None = None) -> Sequence[DiskImage]:
        """Images of disks, and snapshots of those that were removed in part."""
        installation = self._settings.installation()
        answers = await self._clients.everywhere(regions, lambda region: self._disks.all(region, installation))
        return [each for _, found in answers for each in found]

    async def remove_image(self, name: str, *, regions: Collection[str] | None = None) -> None:
        """Deregister an image and delete its snapshots."""
        installation = self._settings.installation()
        await self._clients.everywhere(regions, lambda region: self._disks.remove(region, installation, name))

    async def spans(self, *, regions: Collection[str] | None = None) -> Sequence[Span]:
        """When machines ran, by EC2's own times; ended ones are remembered for about an hour."""
        installation = self._settings.installation()
        answers = await self._clients.everywhere(regions, lambda region: self._machines.of(region, installation, None))
        told = (charges.span_of(region, raw) for region, found in answers for raw in found)
        return [span for span in told if span is not None]

    def extras(self, offer: Offer, machine: MachineSpec) -> Extras:
        """What a machine's disk and public address cost."""
        return extras(offer, machine)

    async def remnants(self, *, regions: Collection[str] | None = None) -> Sequence[Remnant]:
        """Disks, addresses, interfaces and groups with a cluster's mark."""
        installation = self._settings.installation()
        answers = await self._clients.everywhere(
            regions, lambda region: remnants.found(self._clients, region, installation)
        )
        return [each for _, found in answers for each in found]

    async def remove_remnant(self, remnant: Remnant) -> None:
        """Remove one of these."""
        await remnants.remove(self._clients, self._settings.installation(), remnant)

    def irreplaceable(self, placement: Placement, config: Mapping[str, object]) -> str:
        """Each machine is one of its own."""
        return ""

    # --- parts ---------------------------------------------------------------------------------------------------

    def _owner(self, cluster_id: str) -> Owner:
        return Owner(self._settings.installation(), cluster_id, "", {})

    async def _there(self, region: str, cluster_id: str) -> Sequence[Answer]:
        """The cluster's machines that are not ended."""
        found = await self._machines.of(region, self._settings.installation(), cluster_id)
        return [raw for raw in found if state_of(raw) in _LIVE]

    async def _each(
        self, cluster_id: str, regions: Collection[str] | None, act: Callable[[str], Awaitable[None]]
    ) -> Sequence[Instance]:
        await self._clients.everywhere(regions, act)
        return await self.list(cluster_id, regions=regions)

    async def _until(self, region: str, machines: Sequence[Answer], state: str, seconds: float) -> Sequence[Answer]:
        if not machines:
            return []
        return await self._machines.until(region, ids(machines), state, seconds=seconds, ended_is_failure=False)

    async def _end(self, region: str, machines: Sequence[Answer]) -> None:
        """End machines, and wait until they let go of what is theirs."""
        for some in (ids(machines)[at : at + 500] for at in range(0, len(machines), 500)):
            await self._clients.ec2(region, "TerminateInstances", InstanceIds=some)
        left = [raw for raw in await self._until(region, machines, "terminated", _ENDS_S) if state_of(raw) not in ENDED]
        if left:
            raise ProviderDown(f"{', '.join(ids(left))} in {region} do not end; EC2 was told to end them")

    async def _take_back(self, ask: CreateAsk, made: Sequence[str], why: BaseException) -> None:
        """Remove what an attempt made: its nodes, or the whole cluster where all of it was asked for."""
        region, known = ask.placement.offer.region, list(made)

        async def remove() -> None:
            for left, pause in zip(reversed(range(_TIDYING)), delays(1.0), strict=False):
                try:
                    if known:
                        # By name: a list of all machines may not have them yet.
                        await end_named(self._clients, region, known)
                        known.clear()
                    await self.terminate(ask.cluster_id, regions=[region], ranks=ask.ranks or None)
                    return
                except ProviderFailure:
                    if not left:
                        raise
                await self._clients.clock.sleep(pause)

        await self._aside(remove, why)

    async def _stop_again(self, region: str, machines: Sequence[str]) -> None:
        if machines:
            await self._clients.ec2(region, "StopInstances", InstanceIds=list(machines))

    async def _aside(self, tidy: Callable[[], Awaitable[None]], why: BaseException) -> None:
        """Tidy up to the end, even where the caller is cancelled while it waits; the failure stays the first one."""

        async def work() -> None:
            try:
                await tidy()
            except ProviderFailure as error:
                log.warning("aws: what was made could not be removed: %s", error)
                why.add_note(f"what was made could not be removed: {error}")

        task = asyncio.ensure_future(work())
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)
        await asyncio.shield(task)


def _kept(found: Sequence[Answer], key: str) -> Sequence[Answer]:
    """Of each rank the machine that a launch of this key made, if it runs or is about to; all of one zone."""
    ours = [
        raw
        for raw in found
        if marks.read(raw.get("Tags")).get(marks.KEY) == key and state_of(raw) in ("pending", "running")
    ]
    zones = [zone_of(raw) for raw in ours]
    here = max(sorted(set(zones)), key=zones.count, default="")
    return list({rank_of(raw): raw for raw in ours if zone_of(raw) == here}.values())
