"""Puts the agent onto a node and starts it, or finds the one that runs there already.

Called when a cluster is launched or started, and whenever the server has lost track of a node's agent. One command
does it all: it takes the configuration and the zip on its input, and leaves a small shell loop behind that starts
the agent again should it ever die.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from sky.agent.connection import CallRefused, ConnectionLost
from sky.agent.node import checksum

from .agent_client import AgentClient
from .channel import Channel, Order
from .errors import AgentNotStarted, PortTaken
from .package import Package, build

_ANSWERS_WITHIN = 5.0
#: The same for an agent that has just been asked.
_ANSWERS_AGAIN_WITHIN = 1.0
#: The agent's word for a port that somebody else listens on; see `sky.agent.__main__`.
_PORT_TAKEN = 4


async def ensure_agent(
    channel: Channel, node_config: dict[str, Any], *, timeout: float = 30.0, known: bool = True
) -> AgentClient:
    """A client of the node's agent, of this version and with this configuration's node and cluster.

    An agent that fits is used as it is; another version is asked to leave first (tasks go on). One that is `known` to
    have been there is looked for first, since nothing has to be sent to it as a rule; else one command does it all.
    AgentNotStarted when none answers within `timeout` seconds.
    """
    package = build()
    found = await _look(channel, package, await channel.settle(node_config)) if known else None
    if found is not _Found.FITS:
        answers = _ANSWERS_WITHIN if found is None else min(_ANSWERS_WITHIN, _ANSWERS_AGAIN_WITHIN)
        await _start(channel, Order(node_config, package.version, package.data, timeout, answers))
    return AgentClient(channel.open_agent, where=channel.where)


class _Found(Enum):
    FITS = "the right agent answers"
    OTHER = "it does not, or nobody does"


async def _look(channel: Channel, package: Package, config: dict[str, Any]) -> _Found:
    """What is there; nothing is changed."""
    try:
        connection = await channel.open_agent()
    except OSError:
        return _Found.OTHER
    try:
        hello, _ = await connection.call("hello", {}, timeout=_ANSWERS_WITHIN)
    except (ConnectionLost, CallRefused):
        # Dead without having closed, or hanging.
        return _Found.OTHER
    finally:
        await connection.close()
    wanted = (package.version, config["node_id"], checksum(config))
    said = (hello.get("version"), hello.get("node_id"), hello.get("config"))
    return _Found.FITS if said == wanted else _Found.OTHER


async def _start(channel: Channel, order: Order) -> None:
    """Have it started, and judge what the node says of that."""
    where = channel.where
    try:
        went = await channel.start(order)
    except (OSError, TimeoutError) as error:
        raise AgentNotStarted(f"cannot install the agent on {where}: {error or 'it took too long'}") from error
    if went.how in ("found", "started"):
        return
    if went.how == "foreign":
        raise AgentNotStarted(
            f"{where} is served by the agent of another node: {went.said}, wanted {order.config['node_id']};"
            " end that one first"
        )
    if went.how == "ended" and went.rc == _PORT_TAKEN:
        raise PortTaken(f"the agent of {where} cannot listen for its peers. It said: {went.said}")
    if went.how == "ended":
        raise AgentNotStarted(f"the agent of {where} did not come up. It said: {went.said}")
    if went.how == "late":
        raise AgentNotStarted(
            f"the agent of {where} did not come up within {order.seconds:g} s ({went.problem}). It said: {went.said}"
        )
    raise AgentNotStarted(f"cannot install the agent on {where}: {went.said}")
