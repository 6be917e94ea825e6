"""Calls about pools of machines: look at them, forget them. They read and keep an inventory; no cluster changes."""

from sky.server.api import Api
from sky.server.asgi import Route
from sky.wire.ssh import MachineRecord, PoolsDownBody, PoolsUpBody, machine_records

#: The place that is made of pools.
_PLACE = "ssh"


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    plane = api.plane

    async def up(body: PoolsUpBody) -> list[MachineRecord]:
        return machine_records(await plane.look_at_machines(_PLACE, body.infra, body.pools))

    async def down(body: PoolsDownBody) -> list[str]:
        return list(await plane.forget_machines(_PLACE, body.infra, force=body.force))

    return [
        api.read("/ssh_up", PoolsUpBody, list[MachineRecord], "Look at the machines of SSH pools", up),
        api.read("/ssh_down", PoolsDownBody, list[str], "Forget what is known of SSH pools", down),
    ]
