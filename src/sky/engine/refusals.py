"""What task files may say and this version cannot do: refused before anything is recorded, or named as without effect.

Called by `launch` and by whatever only plans. A feature leaves these lists when it is built.
"""

from collections.abc import Mapping

from sky.core.errors import NotSupportedError
from sky.core.model.tasks import TaskSpec


def refuse_unsupported(task: TaskSpec, body: Mapping[str, object] | None = None) -> None:
    """Raise NotSupportedError for what would change the outcome and cannot be carried out, naming the field."""
    asked = body or {}
    first = task.resources[0]
    autostop = first.autostop_config
    absent = {
        "volumes": task.volumes,
        "file_mounts of object stores": task.storage_mounts,
        "pool": task.pool,
        "service": task.service and not task.pool,
        "managed_secrets": task.managed_secrets,
        "secrets by reference": task.secret_refs,
        "event_callback": task.event_callback,
        "config.hooks": task.config.get("hooks"),
        "resources.autostop.hook": autostop is not None and autostop.hook,
        "resources.image_id": any(each.image_id for each in task.resources),
        "resources.volumes": any(each.volumes for each in task.resources),
        "--clone-disk-from": asked.get("clone_disk_from"),
        "--resize": asked.get("resize"),
    }
    where = place(task)
    for feature, wanted in absent.items():
        if wanted:
            raise NotSupportedError(f"{feature}: not supported yet on {where}")
    for destination, source in task.file_mounts.items():
        if "://" in source:
            raise NotSupportedError(f"file_mounts.{destination}: {source}: not supported yet on {where}")


def without_effect(task: TaskSpec) -> list[str]:
    """Fields that a task gives and that change nothing yet: worth a word to the user, not a refusal."""
    given = {key for each in task.resources for key in each.to_yaml_config()}
    idle = given & {
        "disk_size",
        "disk_tier",
        "network_tier",
        "local_disk",
        "priority",
        "priority_class",
        "job_recovery",
    }
    return sorted(f"resources.{key}" for key in idle)


def place(task: TaskSpec) -> str:
    """The infra that a task asks for, in words."""
    return "/".join(sorted({each.infra.cloud or "any infra" for each in task.resources}))
