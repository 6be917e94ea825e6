"""Prefect on any place with compute: tasks, flows, a block for credentials, and the worker of work pools of type `sky`.

Importing this reads nothing else: each name is loaded on first use, and `sky` itself with the first run.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_sky.credentials import SkyCredentials as SkyCredentials
    from prefect_sky.flows import sky_gpu_workflow as sky_gpu_workflow
    from prefect_sky.flows import sky_parallel_workflow as sky_parallel_workflow
    from prefect_sky.flows import sky_train_workflow as sky_train_workflow
    from prefect_sky.runs import SkyTaskError as SkyTaskError
    from prefect_sky.tasks import generate_bucket_uuid as generate_bucket_uuid
    from prefect_sky.tasks import get_secret as get_secret
    from prefect_sky.tasks import results_of as results_of
    from prefect_sky.tasks import run_sky_task as run_sky_task
    from prefect_sky.worker import SkyWorker as SkyWorker

_HOMES = {
    "credentials": "SkyCredentials",
    "flows": "sky_train_workflow sky_gpu_workflow sky_parallel_workflow",
    "runs": "SkyTaskError",
    "tasks": "run_sky_task generate_bucket_uuid get_secret results_of",
    "worker": "SkyWorker",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__version__ = "0.1.0"
__all__ = [*_HOME_OF, "__version__"]  # noqa: PLE0604 - the table is the list


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'prefect_sky' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"prefect_sky.{home}"), name)
    globals()[name] = value
    return value
