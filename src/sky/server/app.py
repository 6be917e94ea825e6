"""Puts the routes together into one application. Called by `server.process`."""

from collections.abc import Callable, Collection

from sky.server.api import Api
from sky.server.asgi import App
from sky.server.identity import gatekeeper
from sky.server.routes import catalog, clusters, infra, jobs, nodes, plans, requests, server, ssh, upkeep, uploads


def build_app(
    api: Api, board: clusters.StatusBoard, *, token: str | None, hosts: Collection[str] | None, stop: Callable[[], None]
) -> App:
    """The application of one server; `stop` is called when its owner asks it to end."""
    routes = [
        *clusters.routes(api, board),
        *jobs.routes(api),
        *nodes.routes(api),
        *requests.routes(api),
        *infra.routes(api),
        *plans.routes(api),
        *catalog.routes(api),
        *ssh.routes(api),
        *uploads.routes(api),
        *server.routes(api, stop),
        *upkeep.routes(api),
    ]
    return App([*routes, server.openapi(api, routes)], gatekeeper(token, hosts), api.metrics.seen)
