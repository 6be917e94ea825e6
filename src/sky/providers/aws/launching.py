"""Brings a gang up: finds what it needs, then asks zone after zone, until one gives all of it."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from sky.core.errors import (
    CapacityRefused,
    CredentialsRejected,
    InstanceNotFound,
    NotSupportedError,
    ProviderDown,
    ProviderFailure,
    QuotaReached,
)
from sky.core.ports import CreateAsk, Keys
from sky.kit.backoff import delays
from sky.providers.aws import marks, reservations
from sky.providers.aws.clients import Answer, Clients
from sky.providers.aws.config import AwsConfig
from sky.providers.aws.errors import code_behind
from sky.providers.aws.first_start import user_data
from sky.providers.aws.images import Images
from sky.providers.aws.instances import ENDED, Machines, ids, rank_of, state_of, zone_of
from sky.providers.aws.launch import Fabrics, Launch
from sky.providers.aws.network import Network, Owner, Subnet
from sky.providers.aws.reservations import Reserved

#: What was made a moment ago may be unknown to the part of EC2 that launches.
_NOT_YET = ("InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound", "InvalidPlacementGroup.Unknown")
_NOT_YET_TRIES = 6
#: Launches of one key that ended before, and whose tokens are used up.
_ROUNDS = 20
#: Seconds for a machine to run; metal takes a quarter of an hour.
_STARTS_S = 1200.0
#: Seconds in which EC2 lists what it has made.
_TOLD_S = 60.0


@dataclass(frozen=True, slots=True)
class Before:
    """What an attempt of the same key left that was cut short: machines to go on with, and how many it made in all."""

    kept: Sequence[Answer] = ()
    used: int = 0

    @property
    def zone(self) -> str:
        """Where the rest belongs."""
        return zone_of(self.kept[0]) if self.kept else ""

    @property
    def image(self) -> str:
        """What those that are there started from; the newest may be another by now."""
        return str(self.kept[0].get("ImageId", "")) if self.kept else ""

    @property
    def ranks(self) -> frozenset[int | None]:
        return frozenset(rank_of(raw) for raw in self.kept)


class Launcher:
    """See the module. Leaves what it made to its caller, who takes it back when this raises."""

    def __init__(self, clients: Clients, network: Network, machines: Machines, keys: Keys | None) -> None:
        self._clients = clients
        self._network = network
        self._machines = machines
        self._keys = keys
        self._images = Images(clients)
        self._fabrics = Fabrics(clients)

    async def launch(
        self, ask: CreateAsk, config: AwsConfig, installation: str, before: Before, made: list[str]
    ) -> Sequence[Answer]:
        """The machines, running. `made` collects what EC2 made, also where this raises, since a list of all machines
        may not have them yet.
        """
        offer = ask.placement.offer
        launch = await self._prepared(ask, config, installation)
        if before.image:
            launch = replace(launch, image=await self._images.exactly(offer.region, before.image))
        subnets = await self._network.subnets(offer.region, offer.zone, config, len(ask.wanted))
        launch = await self._connected(launch, subnets[0].vpc)
        reserved = await reservations.fitting(self._clients, offer, config)
        by_zone = {subnet.zone: subnet for subnet in subnets}
        refused: dict[str, CapacityRefused] = {}
        made += ids(before.kept)
        if before.zone not in by_zone:
            await self._end(offer.region, made)
        for zone in sorted(reservations.zones_first(reserved, list(by_zone)), key=lambda zone: zone != before.zone):
            try:
                return await self._in_zone(launch, by_zone[zone], reserved, before, made)
            except CapacityRefused as error:
                if error.scope != "zone":
                    raise
                ask.say(f"{zone}: {error.reason}")
                refused[zone] = error
                await self._end(offer.region, made)
        if len(refused) == 1:
            raise next(iter(refused.values()))
        raise CapacityRefused("; ".join(f"{zone}: {each.reason}" for zone, each in refused.items()))

    async def _prepared(self, ask: CreateAsk, config: AwsConfig, installation: str) -> Launch:
        """What can be found out side by side."""
        if self._keys is None:
            raise NotSupportedError("machines on AWS need this installation's SSH keys, and it has none")
        login, offer = self._keys.login(ask.cluster_id), ask.placement.offer
        image, pair, fabric = await asyncio.gather(
            self._images.find(offer, ask.machine),
            self._key_pair(offer.region, f"sky-{installation}", login.public_key),
            self._fabrics.wanted(ask),
        )
        made = Launch(ask, config, installation, image, user_data(login, config), pair)
        return made if fabric is None else replace(made, fabric=fabric)

    async def _connected(self, launch: Launch, vpc: str) -> Launch:
        ask, config = launch.ask, launch.config
        labels = {**ask.labels, **config.labels, **ask.machine.labels}
        owner = Owner(launch.installation, ask.cluster_id, ask.cluster_name, labels)
        region = ask.placement.offer.region
        groups = await self._network.groups(region, vpc, owner, config, ask.machine.ports)
        if launch.fabric.efa and not ask.ranks:
            named = await self._network.placement_group(region, groups, owner)
            return replace(launch, groups=groups, placement_group=named)
        return replace(launch, groups=groups)

    async def _key_pair(self, region: str, name: str, public_key: str) -> str | None:
        """The installation's key as a key pair of the region. None where that may not be made: user data brings it."""
        try:
            await self._clients.ec2(region, "ImportKeyPair", KeyName=name, PublicKeyMaterial=public_key.encode())
        except (CredentialsRejected, QuotaReached):
            return None
        except ProviderFailure as error:
            if code_behind(error) != "InvalidKeyPair.Duplicate":
                raise
        return name

    async def _in_zone(
        self, launch: Launch, subnet: Subnet, reserved: Sequence[Reserved], before: Before, made: list[str]
    ) -> Sequence[Answer]:
        """All of the gang in this zone, running; what is there already goes on."""
        region = launch.ask.placement.offer.region
        kept = before if before.zone == subnet.zone else Before()
        missing = [rank for rank in launch.ask.wanted if rank not in kept.ranks]
        here = ids(kept.kept)
        for ranks, reservation in reservations.parts(reserved, subnet.zone, missing):
            here += await self._part(launch, subnet, ranks, (reservation, before.used), made)
        return await self._machines.until(region, here, "running", seconds=_STARTS_S)

    async def _part(
        self,
        launch: Launch,
        subnet: Subnet,
        ranks: Sequence[int],
        drawn: tuple[str | None, int],
        made: list[str],
    ) -> Sequence[str]:
        """One call for these ranks; with a fresh token where an old one only shows machines that ended."""
        reservation, used = drawn
        region = launch.ask.placement.offer.region
        for round in range(used, used + _ROUNDS):
            token = marks.digest(launch.key, subnet.zone, marks.ranks_text(ranks), reservation, round)
            request = launch.request(subnet, ranks, token, reservation)
            try:
                machines = await self._run(region, request, made)
            except ProviderFailure as error:
                if code_behind(error) != "IdempotentParameterMismatch":
                    raise
                # Asked for before, with something in it that has changed since: the newest image, say.
                machines = await self._of_token(region, token)
                made += ids(machines)
            if not all(state_of(raw) in ENDED for raw in machines):
                return ids(machines)
        raise CapacityRefused(f"{_ROUNDS} launches of these machines ended; launch again")

    async def _of_token(self, region: str, token: str) -> Sequence[Answer]:
        """What a launch that EC2 remembers has made. Nothing else is asked for before it is known."""
        until = self._clients.clock.now() + _TOLD_S
        for pause in delays(0.5, ceiling=5.0):
            filters = [{"Name": "client-token", "Values": [token]}]
            found = await self._clients.pages(region, "DescribeInstances", "Reservations", Filters=filters)
            if machines := [raw for each in found for raw in each.get("Instances") or ()]:
                return machines
            if self._clients.clock.now() > until:
                raise ProviderDown(f"{region} has made machines of this launch before and does not list them")
            await self._clients.clock.sleep(pause)
        raise AssertionError("delays do not end")

    async def _run(self, region: str, request: dict[str, object], made: list[str]) -> Sequence[Answer]:
        """Ask for machines; what EC2 made is on record even when the caller goes away meanwhile."""
        task = asyncio.ensure_future(self._patiently(region, request))
        try:
            answer = await asyncio.shield(task)
        except asyncio.CancelledError:
            with suppress(ProviderFailure):
                made += ids((await task).get("Instances") or ())
            raise
        machines: Sequence[Answer] = list(answer.get("Instances") or ())
        made += ids(machines)
        return machines

    async def _patiently(self, region: str, request: dict[str, object]) -> Answer:
        pauses = delays(0.3, ceiling=5.0)
        for left in reversed(range(_NOT_YET_TRIES)):
            try:
                return await self._clients.ec2(region, "RunInstances", **request)
            except ProviderFailure as error:
                if not left or code_behind(error) not in _NOT_YET:
                    raise
            await self._clients.clock.sleep(next(pauses))
        raise AssertionError("the last try returns or raises")

    async def _end(self, region: str, made: list[str]) -> None:
        """End what a zone gave before it refused the rest."""
        if made:
            await end_named(self._clients, region, made)
            made.clear()


async def end_named(clients: Clients, region: str, machines: Sequence[str]) -> None:
    """End machines that EC2 may not know yet, one by one where it does not know them all."""
    try:
        await clients.ec2(region, "TerminateInstances", InstanceIds=list(machines))
    except InstanceNotFound:
        if len(machines) == 1:
            raise
        for each in machines:
            with suppress(InstanceNotFound):
                await clients.ec2(region, "TerminateInstances", InstanceIds=[each])
