"""What task files may say and this version cannot do: refused before anything is recorded, or named as without effect.

Called by `launch` and by whatever only plans. A feature leaves these lists when it is built.
"""

from collections.abc import Mapping

from sky.core.errors import NotSupportedError
from sky.core.model.offers import Offer
from sky.core.model.tasks import TaskSpec

#: File mounts that nodes fetch by themselves.
WEB = ("http://", "https://")


def refuse_unsupported(task: TaskSpec, *, managed: bool = False) -> None:
    """Raise NotSupportedError for what would change the outcome and cannot be carried out, naming the field.

    `managed`: the task is a managed job's. Raises ValueError for what only these can have.
    """
    for field, said in (("sweep", task.sweep), ("depends_on", task.depends_on)):
        if said is not None and not managed:
            raise ValueError(f"{field}: only managed jobs have it; launch it with: sky jobs launch")
    absent = {
        "volumes": task.volumes,
        "file_mounts of object stores": task.storage_mounts,
        "service": task.service and not task.pool,
        "managed_secrets": task.managed_secrets,
        "secrets by reference": task.secret_refs,
        "event_callback": task.event_callback,
        "resources.volumes": any(each.volumes for each in task.resources),
    }
    if task.pool:
        raise NotSupportedError("pool: a task with 'pool' is applied by `sky jobs pool apply`, not launched")
    where = place(task)
    for feature, wanted in absent.items():
        if wanted:
            raise NotSupportedError(f"{feature}: not supported yet on {where}")
    for destination, source in task.file_mounts.items():
        if "://" in source and not source.startswith(WEB):
            raise NotSupportedError(f"file_mounts.{destination}: {source}: not supported yet on {where}")


#: Settings that are read and change nothing: nothing is installed on nodes, and their devices are taken as they are.
_IDLE_SETTINGS = {"provision": ("install_conda",), "nvidia_gpus": ("disable_ecc",)}


def without_effect(
    task: TaskSpec, offer: Offer, settings: Mapping[str, Mapping[str, object]] | None = None
) -> list[str]:
    """Fields that a task gives and that change nothing there yet: worth a word to the user, not a refusal.

    `settings` are the sections of the configuration as they stand for this launch.
    """
    given = {key for each in task.resources for key in each.to_yaml_config()}
    idle = given & {"priority", "priority_class", "job_recovery"}
    if offer.shared:
        # A machine that is there already comes as it is.
        idle |= given & {"disk_size", "disk_tier", "network_tier", "local_disk", "labels"}
    said = [
        f"{section}.{key}"
        for section, keys in _IDLE_SETTINGS.items()
        for key in keys
        if (settings or {}).get(section, {}).get(key)
    ]
    # A job of a cluster is run once, with what the cluster has.
    said += ["on_oom"] if task.on_oom is not None else []
    return [*said, *sorted(f"resources.{key}" for key in idle)]


def place(task: TaskSpec) -> str:
    """The infra that a task asks for, in words."""
    return "/".join(sorted({each.infra.cloud or "any infra" for each in task.resources}))
