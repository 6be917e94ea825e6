"""Machines of Amazon Web Services: the verbs. Opened by the registry; see the README of this folder."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial

from sky.core.errors import CapacityRefused, NotSupportedError, ProviderDown, ProviderFailure, RequestInvalid
from sky.core.errors import InvalidSkyPilotConfigError as ConfigError
from sky.core.model.clusters import Instance, InstanceState
from sky.core.model.offers import Offer
from sky.core.ports import Access, CreateAsk
from sky.kit.backoff import delays
from sky.kit.clock import Clock
from sky.kit.together import together
from sky.providers import credentials
from sky.providers.aws import instances, marks, network
from sky.providers.aws.clients import Answer, Clients
from sky.providers.aws.config import read
from sky.providers.aws.errors import code_behind, died_of, is_missing
from sky.providers.aws.instances import ENDED, Machines, ids, rank_of, state_of
from sky.providers.aws.launching import Launcher, end_named
from sky.providers.aws.network import Network, Owner
from sky.providers.aws.quotas import Room
from sky.providers.registry import Settings

log = logging.getLogger(__name__)

#: Seconds for machines to end, to stop and to start; what EC2 needs is less than a minute for most, and more for metal.
_ENDS_S, _STOPS_S, _STARTS_S = 300.0, 180.0, 600.0
_IMAGE_S = 3600.0
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
        there = [raw for raw in found if state_of(raw) in _LIVE]
        key, made = marks.digest(ask.key, ask.cluster_id), list[str]()
        try:
            before = [raw for raw in there if _made_by(raw, key)]
            if sorted(rank_of(raw) or 0 for raw in before) == sorted(ask.wanted):
                await self._machines.until(region, ids(before), "running", seconds=_STARTS_S)
            else:
                await self._end(region, there)
                used = sum(marks.read(raw.get("Tags")).get(marks.KEY) == key for raw in found)
                await self._launcher.launch(ask, config, installation, used, made)
            return await self._whole(region, ask)
        except BaseException as error:
            # A gang that came up in part is no use to anybody; cancelled or refused, it goes.
            await self._take_back(ask, made, error)
            raise

    async def _whole(self, region: str, ask: CreateAsk) -> Sequence[Instance]:
        """All nodes that the cluster has; the listing may lag behind what is known to run."""
        until = self._clients.clock.now() + _STOPS_S
        for pause in delays(0.25, factor=1.5, ceiling=5.0):
            shown = await self.list(ask.cluster_id, regions=[region])
            running = {each.rank for each in shown if each.state is InstanceState.RUNNING}
            if running.issuperset(ask.wanted):
                return shown
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

    def unstoppable(self, offer: Offer) -> str | None:
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

    async def image_of(self, cluster_id: str, *, regions: Collection[str] | None = None) -> str:
        """Make an image of the head's disk; it may take many minutes until it is ready, by the size of the disk."""
        answers = await self._clients.everywhere(regions, lambda region: self._there(region, cluster_id))
        heads = [(region, raw) for region, found in answers for raw in found if rank_of(raw) == 0]
        if not heads:
            raise NotSupportedError(f"cluster {cluster_id} has no head machine on AWS whose disk could be cloned")
        region, head = heads[0]
        image = await self._image(region, str(head.get("InstanceId")), f"sky-{cluster_id}")
        await self._ready(region, image)
        return image

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

    async def _image(self, region: str, machine: str, title: str) -> str:
        """Begin an image. Asked again after an answer that was lost, EC2 knows the name: that is the image."""
        name = f"{title}-{int(self._clients.clock.now())}"
        tags = marks.tags({marks.INSTALLATION: self._settings.installation(), "Name": title})
        try:
            made = await self._clients.ec2(
                region, "CreateImage", InstanceId=machine, Name=name, TagSpecifications=marks.on(["image"], tags)
            )
        except ProviderFailure as error:
            if code_behind(error) != "InvalidAMIName.Duplicate":
                raise
            named = [{"Name": "name", "Values": [name]}]
            found = await self._clients.ec2(region, "DescribeImages", Owners=["self"], Filters=named)
            made = next(iter(found.get("Images") or ()), {})
        return str(made.get("ImageId", ""))

    async def _ready(self, region: str, image: str) -> None:
        until = self._clients.clock.now() + _IMAGE_S
        for pause in delays(1.0, ceiling=15.0):
            answer: Mapping[str, object] = await self._clients.ec2(region, "DescribeImages", ImageIds=[image])
            found = answer.get("Images")
            state = str(found[0].get("State", "")) if isinstance(found, list) and found else "pending"
            if state == "available":
                return
            if state not in ("pending", "transient") or self._clients.clock.now() > until:
                raise ProviderDown(f"image {image} in {region} does not become available: it is {state}")
            await self._clients.clock.sleep(pause)


def _made_by(raw: Answer, key: str) -> bool:
    """Whether a launch of this key made the machine, and it runs or is about to."""
    return marks.read(raw.get("Tags")).get(marks.KEY) == key and state_of(raw) in ("pending", "running")
