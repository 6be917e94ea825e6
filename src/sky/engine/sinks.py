"""Who is to be told: sinks of the configuration and of tasks, and parcels for them. Used by what has news."""

import logging
from collections.abc import Mapping, Sequence

from sky.core.model.managed_jobs import ManagedJob
from sky.core.model.notifications import Parcel, Sink, read_sinks
from sky.core.policy.notifications import wants
from sky.core.policy.rights import Reach

log = logging.getLogger(__name__)


def configured(section: Mapping[str, object]) -> tuple[Sink, ...]:
    """Those that `notifications` in the server's configuration names."""
    try:
        return read_sinks(section.get("sinks") or (), trusted=True)
    except ValueError as error:
        log.warning("notifications in the configuration: %s", error)
        return ()


def of_job(job: ManagedJob) -> tuple[Sink, ...]:
    """Those that a job's tasks name, each once. A command runs as the server's user: only who may do that has one."""
    found: dict[Sink, None] = {}
    for config in job.task_configs.values():
        said = config.get("notify") if isinstance(config, Mapping) else None
        for sink in read_sinks(said or ()):
            if not sink.command or job.reach == Reach.ALL:
                found[sink] = None
    return tuple(found)


def parcels(id: str, word: str, payload: Mapping[str, object], sinks: Sequence[Sink], now: float) -> list[Parcel]:
    """One for each sink that wants to hear of it."""
    return [
        Parcel(f"{id}:{number}", now, sink._asdict(), {**payload, "id": f"{id}:{number}"}, now)
        for number, sink in enumerate(sinks)
        if wants(sink, word)
    ]
