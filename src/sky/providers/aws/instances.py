"""Machines as EC2 tells them, and as the rest of the house knows them; and the waiting until they are as wanted."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from sky.core.errors import CredentialsRejected, InstanceNotFound, ProviderDown, Throttled
from sky.core.model.clusters import Instance, InstanceState
from sky.core.ports import Keys
from sky.kit.backoff import delays
from sky.providers.aws import marks
from sky.providers.aws.charges import since_of
from sky.providers.aws.clients import Answer, Clients
from sky.providers.aws.config import AwsConfig
from sky.providers.aws.errors import died_of, words

_STATES: Mapping[str, InstanceState] = {
    "pending": InstanceState.PENDING,
    "running": InstanceState.RUNNING,
    "stopping": InstanceState.STOPPING,
    "stopped": InstanceState.STOPPED,
    "shutting-down": InstanceState.TERMINATED,
    "terminated": InstanceState.TERMINATED,
}
ENDED = ("shutting-down", "terminated")
#: Why a machine is not there: because we (or the user) ended it. It is not listed then; one that died is.
_ON_SHUTDOWN = "instanceInitiatedShutdownBehavior"
_ASKED_FOR = "Client.UserInitiatedShutdown"
#: Seconds in which EC2 may not know a machine yet that it has just made.
_UNKNOWN_S = 30.0
#: Seconds of failing looks after which whoever waits gives up.
_SILENT_S = 60.0
#: Machines that one call asks for; EC2 allows 1,000.
_ASKED_AT_ONCE = 500


def state_of(raw: Answer) -> str:
    """EC2's word for the state."""
    return str((raw.get("State") or {}).get("Name", ""))


def ids(machines: Iterable[Answer]) -> list[str]:
    """EC2's own names of machines."""
    return [str(raw.get("InstanceId", "")) for raw in machines]


def rank_of(raw: Answer) -> int | None:
    """The rank of a machine, by its place in its launch; None for one that we did not make so."""
    place = raw.get("AmiLaunchIndex")
    told = marks.read(raw.get("Tags")).get(marks.RANKS, "")
    return marks.rank_at(told, place) if isinstance(place, int) and place >= 0 else None


def zone_of(raw: Answer) -> str:
    """The zone that a machine is in."""
    return str((raw.get("Placement") or {}).get("AvailabilityZone", ""))


def reason_of(raw: Answer) -> tuple[str, str]:
    """Code and words of why a machine is in its state; empty where EC2 says nothing."""
    told = raw.get("StateReason") or {}
    code, message = str(told.get("Code") or ""), str(told.get("Message") or "")
    return code, words(message) or words(str(raw.get("StateTransitionReason") or ""))


class Machines:
    """Finds the machines of this installation and shows them."""

    def __init__(self, clients: Clients, keys: Keys | None) -> None:
        self._clients = clients
        self._keys = keys

    async def of(self, region: str, installation: str, cluster_id: str | None) -> list[Answer]:
        """All with our mark, whatever their state, in one region. Ended ones stay listed for about an hour."""
        filters = marks.of_cluster(installation, cluster_id)
        reservations = await self._clients.pages(region, "DescribeInstances", "Reservations", Filters=filters)
        return _flat(reservations)

    async def known(self, region: str, wanted: Collection[str]) -> list[Answer]:
        """These machines. Raises InstanceNotFound while EC2 does not know them all."""
        names, found = sorted(wanted), []
        for at in range(0, len(names), _ASKED_AT_ONCE):
            some = names[at : at + _ASKED_AT_ONCE]
            answer = await self._clients.ec2(region, "DescribeInstances", InstanceIds=some)
            found += _flat(answer.get("Reservations") or ())
        if len(found) < len(names):
            raise InstanceNotFound(f"{len(names) - len(found)} of {len(names)} machines in {region} are not listed")
        return found

    async def until(
        self, region: str, wanted: Collection[str], state: str, *, seconds: float, ended_is_failure: bool = True
    ) -> list[Answer]:
        """These machines once all are in this state, or as they are after so many seconds.

        Raises the failure that a machine ended of, and ProviderDown where EC2 never lists them.
        """
        clock = self._clients.clock
        begun = answered = clock.now()
        for pause in delays(0.25, factor=1.5, ceiling=5.0):
            try:
                found = await self.known(region, wanted)
            except InstanceNotFound as error:
                if state == "terminated":
                    return []
                if clock.now() > begun + _UNKNOWN_S:
                    raise ProviderDown(f"EC2 made machines and does not list them: {error}") from error
            except (Throttled, ProviderDown):
                # Nobody ends machines that are well because a look at them failed.
                if clock.now() > answered + _SILENT_S:
                    raise
            else:
                answered = clock.now()
                if ended_is_failure:
                    _raise_if_ended(found)
                if all(state_of(raw) == state for raw in found) or clock.now() > begun + seconds:
                    return found
            await clock.sleep(pause)
        raise AssertionError("delays do not end")

    async def end_on_shutdown(self, region: str, machine: str, ends: bool) -> None:
        """Whether a machine ends or stops with a shutdown from inside; looked at first, which takes fewer rights."""
        wanted, asked = "terminate" if ends else "stop", {"InstanceId": machine, "Attribute": _ON_SHUTDOWN}
        try:
            told = await self._clients.call("ec2", region, "DescribeInstanceAttribute", asked)
        except InstanceNotFound:
            return  # ended meanwhile
        except CredentialsRejected:
            if ends:
                raise
            return  # who may not look at it has not changed it: machines are made to stop
        if (told.get("InstanceInitiatedShutdownBehavior") or {}).get("Value") != wanted:
            with suppress(InstanceNotFound):
                await self._clients.call("ec2", region, "ModifyInstanceAttribute", {**asked, "Value": wanted})

    def shown(self, region: str, raw: Answer, config: AwsConfig) -> Instance | None:
        """A machine as the house knows it; None where its tags do not say which one it is."""
        tags, rank = marks.read(raw.get("Tags")), rank_of(raw)
        cluster_id = tags.get(marks.CLUSTER, "")
        if rank is None or not cluster_id:
            return None
        state = _STATES.get(state_of(raw), InstanceState.PENDING)
        code, said = reason_of(raw)
        healthy = state in (InstanceState.RUNNING, InstanceState.PENDING)
        private, public = str(raw.get("PrivateIpAddress") or ""), str(raw.get("PublicIpAddress") or "")
        machine = str(raw.get("InstanceId", ""))
        reach = {
            "kind": "ssh",
            "host": private if config.private or not public else public,
            "port": "22",
            "user": tags.get(marks.LOGIN) or config.ssh_user,
            "host_key": self._keys.login(cluster_id).host_public_key if self._keys else "",
            "power": "machine",
        }
        if proxy := _proxy(config, region, machine):
            reach["proxy_command"] = proxy
        if raw.get("InstanceLifecycle") == "spot":
            reach["notice"] = "aws"
        return Instance(
            id=f"{cluster_id}-{rank}",
            cluster_id=cluster_id,
            rank=rank,
            state=state,
            ip=private,
            reach=reach,
            reason=None if healthy or not (code or said) else f"{said or code} ({code})" if code else said,
            machine=machine,
            external_ip=public or None,
            since=since_of(raw),
        )

    def listed(self, region: str, machines: Iterable[Answer], config: AwsConfig) -> list[Instance]:
        """Machines by cluster and rank: of each rank the one that lives, or else the last, if it died by itself."""
        best: dict[tuple[str, int], tuple[tuple[bool, str], Instance]] = {}
        for raw in machines:
            shown = self.shown(region, raw, config)
            ended = state_of(raw) in ENDED
            if shown is None or (ended and reason_of(raw)[0] in (_ASKED_FOR, "")):
                continue
            key, order = (shown.cluster_id, shown.rank), (not ended, str(raw.get("LaunchTime", "")))
            if key not in best or best[key][0] < order:
                best[key] = (order, shown)
        return [best[key][1] for key in sorted(best)]


def _flat(reservations: Iterable[Answer]) -> list[Answer]:
    return [raw for each in reservations for raw in each.get("Instances") or ()]


def _raise_if_ended(machines: Sequence[Answer]) -> None:
    for raw in machines:
        if state_of(raw) in ENDED:
            code, said = reason_of(raw)
            failed = died_of(code or "Server.InternalError", said)
            raise type(failed)(f"{raw.get('InstanceId')} ended at its start: {failed.reason}", scope=failed.scope)


def _proxy(config: AwsConfig, region: str, machine: str) -> str:
    if named := config.proxy(region):
        return named
    if not config.use_ssm:
        return ""
    profile = f" --profile {config.profile}" if config.profile else ""
    return (
        f"aws ssm start-session --target {machine} --region {region}{profile} "
        "--document-name AWS-StartSSHSession --parameters portNumber=%p"
    )
