"""The call that causes a fault on a cluster of the user's own machines."""

from sky.server.api import Api
from sky.server.asgi import Route
from sky.wire.faults import ChaosBody


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    return [api.mutation("/chaos", ChaosBody, "Cause a fault on a cluster of one's own machines")]
