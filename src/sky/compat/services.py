"""The one word of services that programs import and that nothing here needs: `sky.serve.serve_utils`."""

from enum import StrEnum


class ServiceComponent(StrEnum):
    """Whose logs are meant."""

    CONTROLLER = "controller"
    LOAD_BALANCER = "load_balancer"
    REPLICA = "replica"
