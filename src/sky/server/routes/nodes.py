"""Calls about the nodes of clusters: how people get onto them."""

from sky.core.model.users import Caller
from sky.core.policy import rights
from sky.core.policy.rights import Right
from sky.remote.keys import KeyRing
from sky.server.api import Api
from sky.server.asgi import Route
from sky.server.entrances import cluster_nodes
from sky.wire.nodes import ClusterNodes, NodesBody


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    plane = api.plane
    keys = KeyRing(api.settings.files / "keys")

    async def nodes(body: NodesBody, caller: Caller) -> list[ClusterNodes]:
        names = None if body.cluster_names is None else tuple(body.cluster_names)
        # Who is on a node can do there what its owner can: the way in is for those who may change the cluster.
        open_to = [
            each
            for each in await api.may.shown(caller, await plane.clusters(names, refresh=False))
            if rights.acts(caller, each.user, await plane.workspaces.get(each.workspace))
        ]
        return cluster_nodes(open_to, keys)

    return [
        api.read(
            "/nodes",
            NodesBody,
            list[ClusterNodes],
            "The way onto the nodes of clusters",
            nodes,
            Right.USE,
            # It changes nothing, and clients ask it after every status.
            audited=False,
        )
    ]
