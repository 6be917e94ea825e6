"""Puts the routes together into one application. Called by `server.process`."""

from collections.abc import Callable, Collection

from sky.server.api import Api
from sky.server.asgi import App
from sky.server.audit import Auditor
from sky.server.blocks import blocks_of
from sky.server.identity import Gatekeeper
from sky.server.routes import (
    audit,
    budgets,
    catalog,
    clusters,
    faults,
    infra,
    jobs,
    login,
    managed_jobs,
    nodes,
    plans,
    pools,
    receipts,
    requests,
    schedules,
    server,
    ssh,
    tokens,
    upkeep,
    uploads,
    users,
    workspaces,
)


def build_app(
    api: Api, board: clusters.StatusBoard, *, token: str | None, hosts: Collection[str] | None, stop: Callable[[], None]
) -> App:
    """The application of one server; `stop` is called when its owner asks it to end."""
    routes = [
        *clusters.routes(api, board),
        *jobs.routes(api),
        *managed_jobs.routes(api),
        *pools.routes(api),
        *schedules.routes(api),
        *receipts.routes(api),
        *budgets.routes(api),
        *faults.routes(api),
        *nodes.routes(api),
        *requests.routes(api),
        *infra.routes(api),
        *plans.routes(api),
        *catalog.routes(api),
        *ssh.routes(api),
        *uploads.routes(api),
        *users.routes(api),
        *tokens.routes(api),
        *workspaces.routes(api),
        *audit.routes(api),
        *server.routes(api, stop),
        *login.routes(api),
        *upkeep.routes(api),
    ]
    gate = Gatekeeper(
        api.people, token, hosts, api.ways, blocked=lambda: blocks_of(api.plane.section("rbac").get("roles"))
    )
    auditor = Auditor(api.plane.audit, api.plane.clock)
    return App([*routes, server.openapi(api, routes)], gate, auditor, api.metrics.seen)
