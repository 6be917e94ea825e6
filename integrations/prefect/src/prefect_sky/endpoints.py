"""Which API server a run talks to, for this run alone: no variable of the process is ever changed.

Called by the tasks and by the worker. The first of: the argument, the credentials, `SKYPILOT_API_SERVER_ENDPOINT`, the
Prefect variable `skypilot_api_server_endpoint`, and what the SDK does without being told (the login of `sky api login`,
the configuration, a server on this machine).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect_sky.credentials import SkyCredentials

ENV_ENDPOINT = "SKYPILOT_API_SERVER_ENDPOINT"
ENV_TOKEN = "SKYPILOT_SERVICE_ACCOUNT_TOKEN"  # noqa: S105 - the name of a variable
#: Prefect's variables have lower-case names.
VARIABLE = "skypilot_api_server_endpoint"


@contextmanager
def serving(endpoint: str | None, credentials: SkyCredentials | None = None) -> Iterator[None]:
    """Send the calls of this block, in this thread, to the server that was chosen. Raises ValueError for no address."""
    address, token = chosen(endpoint, credentials)
    if address is None:
        yield
        return
    from sky.sdk.transport import using_endpoint  # noqa: PLC0415 - flows are read where `sky` is never called

    with using_endpoint(address, token):
        yield


def chosen(endpoint: str | None, credentials: SkyCredentials | None = None) -> tuple[str | None, str | None]:
    """Address and token; None for both leaves the choice to the SDK."""
    if credentials is not None:
        return endpoint or credentials.api_server_endpoint, credentials.token_text()
    if endpoint is None and not os.environ.get(ENV_ENDPOINT):
        endpoint = _from_variable()
    return (endpoint, os.environ.get(ENV_TOKEN)) if endpoint else (None, None)


def _from_variable() -> str | None:
    from prefect.variables import Variable  # noqa: PLC0415 - only where nothing else tells

    found = Variable.get(VARIABLE, default=None)
    return found if isinstance(found, str) and found else None
