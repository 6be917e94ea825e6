"""Sky Computing: run workloads where they are cheapest and available.

The public names, each loaded from its module on first use: importing ``sky`` reads this file and nothing else, starts
nothing and touches no file. A name that is not in the table is looked for among the modules (also those of other
versions of this interface, see ``sky/compat``) and then among the entry points of the group ``sky.client_sdks``, by
which other distributions appear as ``sky.<name>``.
"""

import importlib
import sys

# A type checker takes what the table holds for Any; the import of typing is not paid for that.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CLOUDS = (
    "AWS Azure Cudo DO Fluidstack GCP Hyperbolic IBM K8s Kubernetes Lambda Local Mithril Nebius OCI Paperspace "
    "PrimeIntellect RunPod SCP SSH Seeweb Shadeform Slurm Vast Verda Vsphere Yotta CLOUD_REGISTRY"
)

#: Where each name lives, as module to names.
_HOMES = {
    "sky.version": "__version__",
    "sky.core.model.clouds": _CLOUDS,
    "sky.core.model.resources": "Resources",
    "sky.core.model.autostop": "AutostopConfig",
    "sky.core.model.dags": "DagExecution",
    "sky.core.model.choices": "OptimizeTarget StatusRefreshMode",
    "sky.core.model.statuses": "ClusterStatus JobStatus ManagedJobStatus",
    "sky.core.model.storage": "StorageMode StoreType FileMountType StorageStatus",
    "sky.core.model.volumes": "VolumeStatus",
    "sky.sdk.tasks": "Task",
    "sky.sdk.dags": "Dag",
    "sky.sdk.storage": "Storage",
    "sky.sdk.policies": "AdminPolicy AdminPolicyRequestName UserRequest MutatedUserRequest",
    "sky.wire.config": "Config",
    "sky.sdk.clusters": (
        "launch exec status start stop down autostop queue job_status cancel tail_logs download_logs cost_report "
        "ledger endpoints tail_provision_logs tail_hook_logs"
    ),
    "sky.sdk.budgets": "budget_set budget_list budget_remove",
    "sky.sdk.runs": "run Run Outcome",
    "sky.sdk.transport": "using_endpoint",
    "sky.sdk.notebook": "load_ipython_extension unload_ipython_extension",
    "sky.sdk.plans": "optimize validate",
    "sky.sdk.requests": "get stream_and_get api_status api_cancel",
    "sky.sdk.server": "api_info api_start api_stop api_server_logs",
    "sky.sdk.login": "api_login api_logout",
    "sky.sdk.workspaces": "workspaces set_preferred_workspace get_user_workspace",
    "sky.sdk.infra": "enabled_clouds list_accelerators list_accelerator_counts",
    "sky.sdk.ssh": "ssh_up ssh_down",
    "sky.sdk.later": (
        "storage_ls storage_delete reload_config create_debug_dump download_debug_dump dashboard local_up "
        "local_down status_kubernetes kubernetes_node_info kubernetes_label_gpus "
        "realtime_kubernetes_gpu_availability realtime_slurm_gpu_availability slurm_node_info "
        "tail_autostop_logs"
    ),
}

#: `check` is a module that is called like the function, since programs have both of it: see `sky/compat`.
_SUBMODULES = ("check", "clouds", "exceptions", "jobs", "serve", "volumes")

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

_CLIENT_GROUP = "sky.client_sdks"

__all__ = [*_HOME_OF, *_SUBMODULES]  # noqa: PLE0604 - the table is the list


def __getattr__(name: str) -> "Any":
    home = _HOME_OF.get(name)
    if home is not None:
        value: Any = getattr(importlib.import_module(home), name)
    elif name in _SUBMODULES:
        return importlib.import_module(f"sky.{name}")
    elif name.startswith("_"):
        # Python and its tools ask every module for such names; none of them is an extension.
        raise AttributeError(f"module 'sky' has no attribute '{name}'")
    else:
        value = _from_elsewhere(name)
    # Found once, found for good: the next look-up does not come here.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _ForeignPaths:
    """Finds modules of other versions of this interface, such as ``sky.skylet.job_lib``: see ``sky/compat``.

    Last of Python's finders, so it is asked only for what no folder holds.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> "Any":
        """Return how to make the module, or None."""
        if not name.startswith("sky."):
            return None
        return importlib.import_module("sky.compat.finding").find_spec(name)


if not any(getattr(each, "__qualname__", "") == _ForeignPaths.__qualname__ for each in sys.meta_path):
    sys.meta_path.append(_ForeignPaths)


def _from_elsewhere(name: str) -> "Any":
    """Return a module of ours, or what another distribution offers, as ``sky.<name>``; or raise with the nearest."""
    try:
        return importlib.import_module(f"sky.{name}")
    except ModuleNotFoundError as exc:
        if exc.name != f"sky.{name}":
            raise
        if "implementation" in exc.msg:
            raise AttributeError(exc.msg) from None
    from importlib.metadata import entry_points  # noqa: PLC0415 - 10 ms that `import sky` need not pay

    for entry in entry_points(group=_CLIENT_GROUP, name=name):
        return entry.load()
    if name.startswith("spot_"):
        raise AttributeError(f"module 'sky' has no attribute '{name}'; it is 'sky.jobs.{name[5:]}' now")
    from difflib import get_close_matches  # noqa: PLC0415 - wanted only by those who misspell

    close = get_close_matches(name, __all__, n=1)
    hint = f"; did you mean 'sky.{close[0]}'?" if close else ""
    raise AttributeError(f"module 'sky' has no attribute '{name}'{hint}")
