"""Machines of Compute Engine as a place with compute. See `core.ports`: `Compute` and what else `GcpCompute` offers.

What is there is asked of Google each time, never remembered; only names of machines that were asked for are kept, for
a list that is late. The rooms beside this one know one matter each, this one the order in which they are asked.
"""

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sky.core.errors import (
    CapacityRefused,
    CredentialsRejected,
    InstanceNotFound,
    InvalidSkyPilotConfigError,
    NotSupportedError,
    ProviderDown,
    ProviderFailure,
    RequestInvalid,
)
from sky.core.model.clusters import Instance, InstanceState
from sky.core.model.machines import Login, MachineSpec
from sky.core.model.offers import Offer, Placement
from sky.core.ports import Access, CreateAsk, DiskImage, Extras, Remnant
from sky.kit.backoff import delays
from sky.kit.clock import Clock, SystemClock
from sky.kit.together import together, unbroken
from sky.providers.gcp import (
    gpu_network,
    groups,
    images,
    instances,
    names,
    network,
    placement,
    quotas,
    shapes,
    tpu,
)
from sky.providers.gcp.access import Account, Accounts
from sky.providers.gcp.config import GcpConfig, read_config
from sky.providers.gcp.extras import extras
from sky.providers.gcp.gang import Source, to_the_end, whole
from sky.providers.gcp.instances import Machine, Parts
from sky.providers.gcp.machines import Grouped, Singles
from sky.providers.gcp.manifest import MANIFEST
from sky.providers.gcp.network import Firewall, Network
from sky.providers.gcp.remnants import Remaining
from sky.providers.gcp.rest import Json, Rest
from sky.providers.gcp.shapes import Shape
from sky.providers.gcp.tpu import Slices, Tpus
from sky.providers.registry import Settings

log = logging.getLogger(__name__)

#: Seconds for which a region's quotas are believed, and that a question about them may take.
_QUOTAS_HELD_S = 60.0
_QUOTAS_S = 5.0
_STOPPING_S = 300.0
#: Clusters whose machines' names are kept, for lists that are late.
_REMEMBERED = 1000
_PAGE = "500"
_OF_GROUP = "machines of a managed instance group of Google Cloud cannot be stopped, only ended; use `sky down` instead"
_OF_SLICE = "a TPU slice of several hosts cannot be stopped, only ended; use `sky down` instead"


def open_gcp(settings: Settings) -> "GcpCompute":
    """The provider; asks nothing yet."""
    return GcpCompute(settings)


@dataclass(frozen=True, slots=True)
class _Call:
    """What one call of the contract goes by: the account and the configuration as they are now."""

    account: Account
    config: GcpConfig


class GcpCompute:
    """See `core.ports`: Compute, Stoppable, Identified, OpensPorts, ClonesDisks, Quotas."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rest = Rest(Accounts(settings))
        self._clock: Clock = SystemClock()
        self._asked: dict[str, set[tuple[str, str]]] = {}
        self._quotas: dict[str, tuple[float, asyncio.Future[object]]] = {}

    # --- the required contract -----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let go of what it holds; a server stops."""
        await self._rest.close()

    async def check(self) -> Access:
        """Credentials, a project, and the Compute Engine API, by a real call."""
        account = None
        try:
            read_config(self._settings.config())
            account = (await self._call()).account
            await self._rest.get(account, "regions", maxResults="1")
        except InvalidSkyPilotConfigError as error:
            return Access("gcp", False, str(error), "Correct the configuration.", credentials=None)
        except ProviderFailure as failure:
            steps = "\n".join(f"{number}. {step}" for number, step in enumerate(_fix(failure, account), 1))
            return Access("gcp", False, failure.reason, steps, credentials=account is not None)
        who = f"{account.principal} [project {account.project}]"
        return Access("gcp", True, account=who, capabilities=MANIFEST.capabilities, credentials=True)

    async def offers(self) -> Sequence[Offer]:
        """Nothing: the catalog knows what is sold here."""
        return ()

    async def create(self, ask: CreateAsk) -> Sequence[Instance]:
        """Make nodes in the placement's zone, or in the first zone of its region that has them."""
        call = await self._call(ask.config)
        offer = ask.placement.offer
        there = await self._machines(call, ask.cluster_id)
        kept, unwanted = _sorted_out(ask, there)
        await self._end(call, unwanted)
        zones = [offer.zone] if offer.zone else _first(kept, ask, await self._zones(call, offer.region))
        for zone in zones[:-1]:
            try:
                return await self._create(call, ask, zone, kept)
            except CapacityRefused as refused:
                if refused.scope != "zone":
                    raise
                ask.say(f"{zone}: {refused.reason}")
        return await self._create(call, ask, zones[-1], kept)

    async def _create(self, call: _Call, ask: CreateAsk, zone: str, kept: Sequence[Machine]) -> Sequence[Instance]:
        made, net = await self._prepare(call, ask, zone)
        source = self._source(call, ask, made, net)
        about, region = names.about(self._installation, ask.cluster_id), zone.rpartition("-")[0]
        firewall = Firewall(self._rest, call.account, net, about, ask.say)

        async def before() -> None:
            if made.policies:
                await placement.compact(self._rest, call.account, made.mark, region, about)

        async def undo() -> None:
            if not ask.ranks:
                await self._forget_rest(call, made.mark, [region] if made.policies else [], firewall)

        machines = await whole(source, before, lambda: self._rules(call, ask, firewall, made), undo)
        return self._instances(call, [*machines, *(each for each in kept if each.rank not in ask.wanted)])

    def _source(self, call: _Call, ask: CreateAsk, made: Parts, net: Network) -> Source:
        """The way in which these machines are made."""

        def note(zone: str, name: str) -> None:
            self._note(ask.cluster_id, zone, name)

        if shapes.is_tpu(ask.placement.offer):
            return Slices(self._tpus(call), ask, made, net)
        queue = call.config.queue
        if queue is not None and made.shape.gpu is not None:
            return Grouped(self._rest, call.account, ask, made, note, queue)
        return Singles(self._rest, call.account, ask, made, note)

    async def list(
        self, cluster_id: str | None = None, *, regions: Collection[str] | None = None
    ) -> Sequence[Instance]:
        """Machines of this installation, by cluster and rank."""
        call = await self._call()
        return self._instances(call, await self._machines(call, cluster_id, regions))

    async def terminate(
        self, cluster_id: str, *, regions: Collection[str] | None = None, ranks: Collection[int] | None = None
    ) -> None:
        """Delete machines; and, for a whole cluster, the rules, policies and groups that were made for it."""
        call = await self._call()
        found = await self._machines(call, cluster_id, regions)
        if ranks is not None:
            await self._end(call, [each for each in found if each.rank in ranks])
            return
        mark = names.mark(self._installation, cluster_id)
        zones, regions_of = await asyncio.gather(
            self._rest.places(call.account, "instanceGroupManagers", mark),
            self._rest.places(call.account, "resourcePolicies", mark),
        )
        if zones or call.config.queue is not None:
            await groups.remove(self._rest, call.account, mark, zones)
        await self._end(call, found, self._asked.get(cluster_id, ()))
        self._asked.pop(cluster_id, None)
        made = next(filter(None, (network.network_of(each.record, call.account) for each in found)), None)
        await self._forget_rest(call, mark, regions_of, self._firewall(call, made, cluster_id))

    # --- stopping ------------------------------------------------------------------------------------------------

    async def stop(self, cluster_id: str, *, regions: Collection[str] | None = None) -> Sequence[Instance]:
        """Stop all machines; disks are kept. Raises NotSupportedError for machines of a group, which would refill."""
        call = await self._call()
        found = await self._machines(call, cluster_id, regions)
        if any(each.group for each in found):
            raise NotSupportedError(_OF_GROUP)
        if len({each.name for each in found if each.tpu}) < len([each for each in found if each.tpu]):
            raise NotSupportedError(_OF_SLICE)
        await _each(self._stop(call, each) for each in found if each.alive)
        return self._instances(call, await self._again(call, found))

    def unstoppable(
        self, offer: Offer, config: Mapping[str, object] | None = None, made: Sequence[Instance] = ()
    ) -> str | None:
        """Machines that a managed group made, which would refill, and TPU slices of several hosts."""
        if shapes.is_tpu(offer):
            return _OF_SLICE if tpu.hosts(tpu.accelerator_type(offer)) > 1 else None
        if made:
            return _OF_GROUP if any(each.reach.get("group") for each in made) else None
        try:
            queue = read_config(self._settings.config() if config is None else config).queue
        except InvalidSkyPilotConfigError:
            return None  # said when machines are asked for
        return _OF_GROUP if queue is not None and offer.accelerators else None

    async def _stop(self, call: _Call, machine: Machine) -> None:
        if machine.tpu:
            return await self._tpus(call).change(machine, "stop")
        # What lies on disks inside the machine is lost with any stop; Google wants that said.
        query = {"discardLocalSsd": "true"} if machine.scratch else {}
        return await self._rest.done(call.account, f"{_path(machine)}/stop", None, **query)

    async def start(self, cluster_id: str, *, regions: Collection[str] | None = None) -> Sequence[Instance]:
        """Start all machines, or none: when one is refused, those that were started are stopped again."""
        call = await self._call()
        found = await self._machines(call, cluster_id, regions)
        if not found:
            raise CapacityRefused("the cluster's machines are gone from Google Cloud", scope="request")
        resting = [each for each in found if each.state is not InstanceState.RUNNING]
        try:
            await _each(self._start(call, each) for each in resting)
            return self._instances(call, await self._again(call, found))
        except BaseException:
            await unbroken(self._rest_again(call, resting))
            raise

    async def _start(self, call: _Call, machine: Machine) -> None:
        until = self._clock.now() + _STOPPING_S
        for delay in delays(0.2, 1.5, 3.0):
            if machine.state is not InstanceState.STOPPING or self._clock.now() > until:
                break
            await self._clock.sleep(delay)
            (machine,) = await self._again(call, [machine]) or (machine,)
        if machine.state is InstanceState.STOPPED and machine.tpu:
            await self._tpus(call).change(machine, "start")
        elif machine.state is InstanceState.STOPPED:
            verb = "resume" if machine.status == "SUSPENDED" else "start"
            await self._rest.done(call.account, f"{_path(machine)}/{verb}")

    async def _rest_again(self, call: _Call, machines: Sequence[Machine]) -> None:
        """Stop what a start that was refused has begun."""
        try:
            await _each(self._stop(call, each) for each in await self._again(call, machines) if each.alive)
        except ProviderFailure as failure:
            log.warning("machines that were started with others in vain may run on: %s", failure.reason)

    # --- who asks, ports, images, quotas ---------------------------------------------------------------------------

    async def identity(self) -> str:
        """Project and principal."""
        call = await self._call()
        return f"{call.account.project}/{call.account.principal}"

    async def open_ports(
        self, cluster_id: str, ports: Sequence[str], *, regions: Collection[str] | None = None
    ) -> None:
        """Open ports to everybody on all machines of a cluster, also on those to come."""
        call = await self._call()
        found = await self._machines(call, cluster_id, regions)
        if not found:
            raise InstanceNotFound("the cluster has no machines on Google Cloud")
        if ports:
            made = network.network_of(found[0].record, call.account)
            await self._firewall(call, made, cluster_id).open_ports(names.mark(self._installation, cluster_id), ports)

    async def image_of(self, cluster_id: str, key: str, *, regions: Collection[str] | None = None) -> str:
        """An image of the head's boot disk. The machine should be stopped: what is not written yet is not in it."""
        call = await self._call()
        head = next((each for each in await self._machines(call, cluster_id, regions) if each.rank == 0), None)
        if head is None:
            raise InstanceNotFound("the cluster has no head on Google Cloud")
        return await images.clone(self._rest, call.account, self._installation, head, key)

    async def images(self, *, regions: Collection[str] | None = None) -> Sequence[DiskImage]:
        """Images of disks, which Google keeps for all regions."""
        call = await self._call()
        return await images.clones(self._rest, call.account, self._installation)

    async def remove_image(self, name: str, *, regions: Collection[str] | None = None) -> None:
        """Delete an image of this installation; nobody else's."""
        call = await self._call()
        if name in {each.name for each in await images.clones(self._rest, call.account, self._installation)}:
            await self._rest.removed(call.account, f"/{name}")

    def extras(self, offer: Offer, machine: MachineSpec) -> Extras:
        """What a machine's disk and public address cost."""
        return extras(offer, machine)

    async def remnants(self, *, regions: Collection[str] | None = None) -> Sequence[Remnant]:
        """Disks and addresses with a cluster's labels, rules and placement policies that tell of one."""
        call = await self._call()
        return await self._remnants(call).found(regions)

    async def remove_remnant(self, remnant: Remnant) -> None:
        """Delete one of these."""
        call = await self._call()
        await self._remnants(call).remove(remnant)

    def _remnants(self, call: _Call) -> Remaining:
        project = call.config.vpc_project or call.account.project
        return Remaining(self._rest, call.account, self._installation, project)

    async def room(self, offer: Offer) -> int | None:
        """See `core.ports.Quotas`. A region's quotas are asked for once a minute."""
        if shapes.is_tpu(offer):
            return None
        held = self._quotas.get(offer.region)
        if held is None or self._clock.now() - held[0] > _QUOTAS_HELD_S:
            # Many offers of a region are asked about at once: they wait for one answer, and for one failure.
            asking = asyncio.ensure_future(self._region_quotas(offer.region))
            held = self._quotas[offer.region] = (self._clock.now(), asking)
        try:
            async with asyncio.timeout(_QUOTAS_S):
                return quotas.room(offer, await asyncio.shield(held[1]))
        except (ProviderFailure, TimeoutError) as error:
            log.debug("quotas of %s are not known: %s", offer.region, error)
            return None

    async def _region_quotas(self, region: str) -> object:
        try:
            call = await self._call()
            return (await self._rest.get(call.account, f"regions/{region}")).get("quotas")
        except ProviderFailure as error:
            log.debug("quotas of %s cannot be read: %s", region, error)
            return None

    def irreplaceable(self, placement: Placement, config: Mapping[str, object]) -> str:
        """Machines can be replaced that are made one by one."""
        if shapes.is_tpu(placement.offer):
            return "the machines of a TPU slice come and go together"
        if read_config(config).queue is not None and placement.accelerators:
            return "machines that a queue gives come and go together"
        return ""

    # --- parts ---------------------------------------------------------------------------------------------------

    @property
    def _installation(self) -> str:
        return self._settings.installation()

    async def _call(self, config: Mapping[str, object] | None = None) -> _Call:
        """The account and the configuration. A launch may not name another project: nobody would look there."""
        try:
            standing = read_config(self._settings.config())
            made = read_config(config) if config else standing
        except InvalidSkyPilotConfigError as error:
            raise RequestInvalid(str(error), scope="account") from error
        account = await self._rest.account(standing)
        if made.project_id and made.project_id != account.project:
            raise NotSupportedError(
                f"this launch asks for project {made.project_id}, the server works in {account.project}: several "
                "projects at once are not supported yet; set gcp.project_id in the server's configuration"
            )
        return _Call(account, made)

    async def _prepare(self, call: _Call, ask: CreateAsk, zone: str) -> tuple[Parts, Network]:
        """Find out what is needed before the first machine: image, network, reservations."""
        made = shapes.shape(ask.placement.offer)
        region, mark = zone.rpartition("-")[0], names.mark(self._installation, ask.cluster_id)
        tag = names.installation_tag(self._installation)
        (image, least), net, taken = await asyncio.gather(
            self._image(call, ask, made),
            network.network(self._rest, call.account, call.config, region),
            placement.affinities(self._rest, call.account, call.config, made, zone, ask.wanted),
        )
        more = await self._gpu_cards(call, made, region, tag)
        policies = [placement.policy(call.account, mark, region)] if _compact(call, ask) else []
        return Parts(
            shape=made,
            mark=mark,
            tag=tag,
            installation=self._installation,
            zone=zone,
            image=image,
            least_disk_gb=least,
            cards=[network.interface(net, call.config, ask.machine, made), *more],
            config=call.config,
            login=self._login(ask.cluster_id),
            policies=policies,
            affinities=taken,
        ), net

    async def _image(self, call: _Call, ask: CreateAsk, made: Shape) -> tuple[str, int]:
        if shapes.is_tpu(ask.placement.offer):
            return "", 0  # a TPU has a runtime version instead
        return await images.image(self._rest, call.account, ask.machine, made)

    async def _gpu_cards(self, call: _Call, made: Shape, region: str, tag: str) -> Sequence[Json]:
        if not call.config.gpu_direct:
            return ()
        return await gpu_network.cards(self._rest, call.account, made, region, tag)

    def _tpus(self, call: _Call) -> Tpus:
        return Tpus(self._rest, call.account, self._installation)

    async def _rules(self, call: _Call, ask: CreateAsk, firewall: Firewall, made: Parts) -> None:
        wanted = [firewall.open_ssh(made.tag, inside=call.config.internal_ips)]
        if ask.placement.num_nodes > 1:
            wanted.append(firewall.open_inside(made.mark))
        if ask.machine.ports:
            wanted.append(firewall.open_ports(made.mark, ask.machine.ports))
        await together(wanted)

    async def _forget_rest(self, call: _Call, mark: str, regions: Sequence[str], firewall: Firewall) -> None:
        """Remove what was made for a cluster beside its machines."""
        if regions:
            await placement.spread_out(self._rest, call.account, mark, regions)
        try:
            await firewall.remove(mark)
        except CredentialsRejected as refused:
            log.warning("rules of %s stay in a network that others keep: %s", mark, refused.reason)

    def _firewall(self, call: _Call, made: Network | None, cluster_id: str) -> Firewall:
        net = made or Network(call.config.vpc_project or call.account.project, call.config.network)
        return Firewall(self._rest, call.account, net, names.about(self._installation, cluster_id))

    async def _machines(
        self, call: _Call, cluster_id: str | None, regions: Collection[str] | None = None
    ) -> Sequence[Machine]:
        """What is there, by cluster and rank."""
        wanted = f'(labels.{names.INSTALLATION}="{names.label_value(self._installation)}")'
        if cluster_id is not None:
            wanted += f' AND (labels.{names.CLUSTER}="{names.label_value(cluster_id)}")'
        found = []
        async for page in self._rest.pages(call.account, "aggregated/instances", filter=wanted, maxResults=_PAGE):
            for place in _unreachable(page):
                _refuse_blind(place, regions)
            for where, part in _items(page):
                _seen(where, part, regions)
                listed = part.get("instances")
                for record in listed if isinstance(listed, list) else ():
                    machine = instances.read(record, self._installation)
                    if machine is not None and _fits(machine, cluster_id, regions):
                        found.append(machine)
        if cluster_id is None or not found:  # a cluster is of machines or of TPUs
            tpus = await self._tpus(call).all()
            found += [each for each in tpus if _fits(each, cluster_id, regions)]
        return sorted(found, key=lambda each: (each.cluster_id, each.rank))

    async def _again(self, call: _Call, machines: Sequence[Machine]) -> Sequence[Machine]:
        """The same machines as they are now, without those that are gone."""
        one_each = {(each.zone, each.name): each for each in machines}.values()
        looks = await asyncio.gather(*(self._look(call, each) for each in one_each))
        return [machine for found in looks for machine in found]

    async def _look(self, call: _Call, machine: Machine) -> Sequence[Machine]:
        if machine.tpu:
            return await self._tpus(call).look(machine.zone, machine.name)
        try:
            found = instances.read(await self._rest.get(call.account, _path(machine)), self._installation)
        except InstanceNotFound:
            return []
        return [] if found is None else [found]

    async def _end(self, call: _Call, machines: Sequence[Machine], asked: Collection[tuple[str, str]] = ()) -> None:
        """Delete machines, and those of the names that were asked for, whatever the list says."""
        slices = {(each.zone, each.name) for each in machines if each.tpu}
        paths = {_path(each) for each in machines if not each.tpu}
        paths |= {f"zones/{zone}/instances/{name}" for zone, name in asked}
        groups_of = [each for each in machines if each.group]
        await to_the_end(
            [
                *(self._tpus(call).end(*each) for each in sorted(slices)),
                *(
                    self._rest.removed(call.account, path)
                    for path in sorted(paths - {_path(each) for each in groups_of})
                ),
                *(self._out_of_group(call, each) for each in groups_of),
            ]
        )

    async def _out_of_group(self, call: _Call, machine: Machine) -> None:
        """Deleted by its group: one that is deleted behind its back would be missed, and made anew."""
        where = f"zones/{machine.zone}/instanceGroupManagers/{machine.group}/deleteInstances"
        try:
            await self._rest.done(call.account, where, {"instances": [_path(machine)]})
        except (InstanceNotFound, RequestInvalid):
            await self._rest.removed(call.account, _path(machine))

    def _note(self, cluster_id: str, zone: str, name: str) -> None:
        self._asked.setdefault(cluster_id, set()).add((zone, name))
        while len(self._asked) > _REMEMBERED:
            del self._asked[next(iter(self._asked))]

    async def _zones(self, call: _Call, region: str) -> Sequence[str]:
        found: list[str] = []
        async for page in self._rest.pages(call.account, "zones"):
            for each in page.get("items") or ():
                name = str(each.get("name", ""))
                if name.rpartition("-")[0] == region and each.get("status", "UP") == "UP":
                    found.append(name)
        if not found:
            raise CapacityRefused(f"region {region} has no zones that are up", scope="region")
        return sorted(found)

    def _login(self, cluster_id: str) -> Login | None:
        return None if self._settings.keys is None else self._settings.keys.login(cluster_id)

    def _instances(self, call: _Call, machines: Sequence[Machine]) -> Sequence[Instance]:
        ordered = sorted(machines, key=lambda each: (each.cluster_id, each.rank))
        return [instances.instance(each, call.config, self._login(each.cluster_id)) for each in ordered]


def _sorted_out(ask: CreateAsk, there: Sequence[Machine]) -> tuple[list[Machine], list[Machine]]:
    """Machines to keep and machines to end first: what an earlier ask left of these ranks, or of the whole cluster."""
    kept, unwanted = [], []
    for each in there:
        same = each.key == names.key_label(ask.key) and each.alive and each.rank in ask.wanted
        zone = ask.placement.offer.zone
        if (same and zone in (None, each.zone)) or (ask.ranks and each.rank not in ask.wanted):
            kept.append(each)
        else:
            unwanted.append(each)
    return kept, unwanted


def _first(kept: Sequence[Machine], ask: CreateAsk, zones: Sequence[str]) -> Sequence[str]:
    """Zones to try, first that in which an ask that was cut short has begun."""
    begun = {each.zone for each in kept if each.rank in ask.wanted}
    return sorted(zones, key=lambda zone: zone not in begun)


def _compact(call: _Call, ask: CreateAsk) -> bool:
    return call.config.compact and ask.placement.num_nodes > 1


def _items(page: Json) -> Sequence[tuple[str, Mapping[str, object]]]:
    items = page.get("items")
    if not isinstance(items, Mapping):
        return []
    return [(str(where), part) for where, part in items.items() if isinstance(part, Mapping)]


def _seen(where: str, part: Mapping[str, object], regions: Collection[str] | None) -> None:
    """Raise ProviderDown where a zone that matters could not be looked into: its machines are not gone."""
    warning = part.get("warning")
    if isinstance(warning, Mapping) and warning.get("code") == "UNREACHABLE":
        _refuse_blind(where, regions)


def _unreachable(page: Json) -> Sequence[str]:
    told = page.get("unreachables")
    return [str(each) for each in told] if isinstance(told, list) else []


def _refuse_blind(where: str, regions: Collection[str] | None) -> None:
    zone = where.rpartition("/")[2]
    if regions is None or zone in regions or zone.rpartition("-")[0] in regions:
        raise ProviderDown(f"Google cannot look into {zone[:60]} now", scope="zone")


def _fits(machine: Machine, cluster_id: str | None, regions: Collection[str] | None) -> bool:
    return cluster_id in (None, machine.cluster_id) and (regions is None or machine.region in regions)


def _path(machine: Machine) -> str:
    return f"zones/{machine.zone}/instances/{machine.name}"


async def _each(work: Iterable[Coroutine[object, object, None]]) -> None:
    """All to their end; then the first failure is raised. What is gone meanwhile is none."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException) and not isinstance(result, InstanceNotFound):
            raise result


def _fix(failure: ProviderFailure, account: Account | None) -> Sequence[str]:
    if account is None:
        return MANIFEST.fix
    if isinstance(failure, CredentialsRejected):
        return (
            f"Enable the API: `gcloud services enable compute.googleapis.com --project {account.project}`.",
            f"Let {account.principal} manage machines: the role Compute Admin in project {account.project}.",
            "If the login has ended: `gcloud auth application-default login`.",
        )
    return ("Try again; Google's state is told at https://status.cloud.google.com.",)
