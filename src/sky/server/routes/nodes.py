"""Calls about the nodes of clusters: how people get onto them."""

from sky.remote.keys import KeyRing
from sky.server.api import Api
from sky.server.asgi import Route
from sky.server.entrances import cluster_nodes
from sky.wire.nodes import ClusterNodes, NodesBody


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    plane = api.plane
    keys = KeyRing(api.settings.files / "keys")

    async def nodes(body: NodesBody) -> list[ClusterNodes]:
        names = None if body.cluster_names is None else tuple(body.cluster_names)
        return cluster_nodes(await plane.clusters(names, refresh=False), keys)

    return [api.read("/nodes", NodesBody, list[ClusterNodes], "The way onto the nodes of clusters", nodes)]
