"""Machines that Google makes when it has them all: a managed instance group with a request to grow (`resizeRequests`).

Used where `gcp.managed_instance_group` is configured. Machines are named as without a group, so that all else is the
same; they end by themselves after the run's time. Google has this for accelerators only.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sky.core.errors import CapacityRefused, InstanceNotFound, ProviderFailure, RequestInvalid
from sky.core.ports import CreateAsk
from sky.kit.backoff import delays
from sky.kit.clock import SystemClock
from sky.providers.gcp import errors, instances, names
from sky.providers.gcp.access import Account
from sky.providers.gcp.config import Queue
from sky.providers.gcp.instances import Parts
from sky.providers.gcp.rest import Json, Rest

_TEMPLATES = "global/instanceTemplates"
_FIRST_LOOK_S = 0.5
_LONGEST_LOOK_S = 15.0


async def make(rest: Rest, account: Account, ask: CreateAsk, parts: Parts, queue: Queue) -> None:
    """Ask for all machines at once, and wait for them as long as configured. Raises CapacityRefused after that."""
    with suppress(errors.AlreadyThere):
        await rest.done(account, _TEMPLATES, template(ask, parts, queue))
    with suppress(errors.AlreadyThere):
        await rest.done(account, f"zones/{parts.zone}/instanceGroupManagers", group(account, parts))
    body = resize(ask, parts, queue)
    where = f"zones/{parts.zone}/instanceGroupManagers/{parts.mark}/resizeRequests"
    with suppress(errors.AlreadyThere):
        await rest.done(account, where, body)
    ask.say(f"Waiting up to {queue.wait_s:.0f} s for {len(ask.wanted)} machines in the queue of {parts.zone}")
    await _granted(rest, account, f"{where}/{body['name']}", queue, parts.zone)


async def withdraw(rest: Rest, account: Account, ask: CreateAsk, parts: Parts) -> None:
    """Take the request of one ask back, so that a group that stays is not given machines later."""
    name = f"{parts.mark}-{names.key_label(ask.key)}"
    with suppress(InstanceNotFound, RequestInvalid):  # never made, or over already
        await rest.done(account, f"zones/{parts.zone}/instanceGroupManagers/{parts.mark}/resizeRequests/{name}/cancel")


async def remove(rest: Rest, account: Account, mark: str, zones: Sequence[str]) -> None:
    """Remove a cluster's groups in these zones with their machines, and its template."""
    for zone in zones:
        await rest.removed(account, f"zones/{zone}/instanceGroupManagers/{mark}")
    await rest.removed(account, f"{_TEMPLATES}/{mark}")


def template(ask: CreateAsk, parts: Parts, queue: Queue) -> dict[str, Any]:
    """What each machine is, as `instanceTemplates.insert` takes it: kinds by their names alone, without a zone."""
    body = instances.properties(ask, parts)
    for disk in body["disks"]:
        disk["initializeParams"]["diskType"] = disk["initializeParams"]["diskType"].rpartition("/")[2]
    body["reservationAffinity"] = {"consumeReservationType": "NO_RESERVATION"}
    body["scheduling"] = {
        "automaticRestart": False,
        "onHostMaintenance": "TERMINATE",
        "provisioningModel": "FLEX_START",
        "instanceTerminationAction": "DELETE",
        "maxRunDuration": {"seconds": str(int(queue.run_s))},
    }
    return {"name": parts.mark, "properties": body}


def group(account: Account, parts: Parts) -> dict[str, Any]:
    """An empty group that neither repairs nor replaces: what is to be done about a lost machine is ours to say."""
    return {
        "name": parts.mark,
        "baseInstanceName": parts.mark,
        "instanceTemplate": f"projects/{account.project}/{_TEMPLATES}/{parts.mark}",
        "targetSize": 0,
        "updatePolicy": {"type": "OPPORTUNISTIC"},
        "instanceLifecyclePolicy": {"defaultActionOnFailure": "DO_NOTHING"},
    }


def resize(ask: CreateAsk, parts: Parts, queue: Queue) -> dict[str, Any]:
    """The request for the machines, by name. Its own name is that of the ask, so that it is made once."""
    return {
        "name": f"{parts.mark}-{names.key_label(ask.key)}",
        "instances": [{"name": names.machine(parts.mark, rank)} for rank in ask.wanted],
        "requestedRunDuration": {"seconds": str(int(queue.run_s))},
    }


async def _granted(rest: Rest, account: Account, path: str, queue: Queue, zone: str) -> None:
    clock = SystemClock()
    until = clock.now() + queue.wait_s
    for delay in delays(_FIRST_LOOK_S, 1.5, _LONGEST_LOOK_S):
        found = await rest.get(account, path)
        state = found.get("state")
        if state == "SUCCEEDED":
            return
        if state in ("FAILED", "CANCELLED"):
            raise _refusal(found, f"the request for machines in {zone} was {str(state).lower()}")
        if clock.now() > until:
            raise CapacityRefused(
                f"no machines in the queue of {zone} within {queue.wait_s:.0f} s "
                "(gcp.managed_instance_group.provision_timeout)",
                scope="zone",
            )
        await clock.sleep(min(delay, max(0.0, until - clock.now()) + 0.1))


def _refusal(found: Json, words: str) -> ProviderFailure:
    """Why a request failed: its own error, or that of its last attempt."""
    status = found.get("status")
    if isinstance(status, Mapping):
        for part in (status, status.get("lastAttempt")):
            if isinstance(part, Mapping) and isinstance(part.get("error"), Mapping):
                said = errors.from_operation({"error": part["error"]})
                if said is not None:
                    return said
    return CapacityRefused(words, scope="zone")
