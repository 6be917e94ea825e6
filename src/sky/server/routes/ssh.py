"""Calls about pools of machines: look at them, forget them. They read and keep an inventory; no cluster changes."""

from sky.core.model.users import Caller
from sky.core.policy.rights import Right
from sky.server.api import Api
from sky.server.asgi import Route
from sky.wire.ssh import MachineRecord, PoolsDownBody, PoolsUpBody, machine_records

#: The place that is made of pools.
_PLACE = "ssh"


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    plane = api.plane

    async def up(body: PoolsUpBody, _: Caller) -> list[MachineRecord]:
        return machine_records(await plane.look_at_machines(_PLACE, body.infra, body.pools))

    async def down(body: PoolsDownBody, _: Caller) -> list[str]:
        return list(await plane.forget_machines(_PLACE, body.infra, force=body.force))

    return [
        api.read("/ssh_up", PoolsUpBody, list[MachineRecord], "Look at the machines of SSH pools", up, Right.ADMIN),
        api.read("/ssh_down", PoolsDownBody, list[str], "Forget what is known of SSH pools", down, Right.ADMIN),
    ]
