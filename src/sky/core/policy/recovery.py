"""How a managed job goes on after a loss: plain functions of what happened, used by the engine and by simulators.

A strategy says where to look first and what to stay away from; others come by entry points of the group
`sky.recovery`, each a function of the same form. What the job's own failures mean is said by `after_failure`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sky.core.model.jobs import FailureCause
from sky.core.model.managed_jobs import Where
from sky.core.model.statuses import ManagedJobStatus
from sky.core.model.tasks import TaskSpec
from sky.core.policy.oom import Grown, after_oom
from sky.kit.frozen import replace

#: The strategy of tasks that name none.
DEFAULT = "EAGER_NEXT_REGION"
#: Entry points that add strategies.
GROUP = "sky.recovery"
#: Seconds before a launch that found no place is tried again: first, and at most.
BACKOFF_S = (10.0, 300.0)


@dataclass(frozen=True, slots=True)
class History:
    """What a strategy knows. `lost`: places that were lost or would not have us since it last ran, newest last.

    `launches` are those that failed in a row; `config` is the task's `job_recovery`.
    """

    lost: tuple[Where, ...]
    last: Where | None
    launches: int
    attempt: int
    config: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Choice:
    """Where to look: not at `avoid` (as `cloud/region`), while there is anything else, and first at `prefer`.

    `wait` seconds before looking; `reason` says it in words.
    """

    avoid: tuple[str, ...] = ()
    prefer: str | None = None
    wait: float = 0.0
    reason: str = ""


#: From what happened to where to look next.
Strategy = Callable[[History], Choice]


def failover(history: History) -> Choice:
    """Where it was, first: its data is there. Then everywhere."""
    if history.last is None or history.launches:
        return Choice()
    place = region_of(history.last)
    return Choice(prefer=place, reason=f"{place} first, where it was")


def eager_next_region(history: History) -> Choice:
    """Leave the regions that failed; what took a machine away is likely to do so again soon."""
    avoid = tuple(dict.fromkeys(region_of(each) for each in history.lost))
    return Choice(avoid, reason=f"leaving {', '.join(avoid)}") if avoid else Choice()


BUILT_IN: Mapping[str, Strategy] = {DEFAULT: eager_next_region, "FAILOVER": failover}
#: The word for tasks that are not to be begun anew when their machines are lost.
NONE = "NONE"


def region_of(where: Where) -> str:
    """The place that is left or sought: a region, or a cloud that has none."""
    return "/".join(where.infra.split("/")[:2])


def strategy_name(config: Mapping[str, object]) -> str:
    """The strategy that a task's `job_recovery` names."""
    return str(config.get("strategy") or DEFAULT).upper()


def backoff(failures: int) -> float:
    """Seconds before the next launch after so many that failed in a row."""
    first, most = BACKOFF_S
    return float(min(first * 2 ** max(0, min(failures - 1, 20)), most))


@dataclass(frozen=True, slots=True)
class Again:
    """Whether a job that failed by itself is begun anew, whether that counts against its limit, and why."""

    restart: bool
    counts: bool
    why: str


def after_failure(config: Mapping[str, object], exit_codes: Sequence[int], restarts: int) -> Again:
    """What the failure of the job's own code means, after `restarts` that counted."""
    wanted = config.get("recover_on_exit_codes")
    codes = [code for code in exit_codes if isinstance(wanted, list | tuple) and code in wanted]
    if codes:
        return Again(True, False, f"exit code {codes[0]} is one of recover_on_exit_codes")
    most = config.get("max_restarts_on_errors")
    allowed = most if isinstance(most, int) else 0
    if restarts < allowed:
        return Again(True, True, f"restart {restarts + 1} of {allowed} after errors")
    why = f"it was restarted {restarts} times after errors, as often as allowed" if allowed else ""
    return Again(False, False, why)


def grown(
    task: Mapping[str, object], cause: FailureCause, had_gb: float | None, tries: int
) -> tuple[Mapping[str, object] | None, str]:
    """A task's configuration that asks for more after it ran out of memory, or None; with the reason.

    had_gb: memory (GiB) of its nodes. tries: how often it has grown already. Nothing at all is said of a task that
    declares no `on_oom`.
    """
    spec = TaskSpec.from_config(task)
    if spec.on_oom is None:
        return None, ""
    several = [after_oom(each, spec.on_oom, cause, had_gb=had_gb, tries=tries) for each in spec.resources]
    larger = [each for each in several if isinstance(each, Grown)]
    if not larger:
        return None, several[0].reason
    return replace(spec, resources=tuple(each.resources for each in larger)).to_config(), larger[0].reason


def span(seconds: float) -> str:
    """A time in words, in the largest unit that it fills."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def called_off(user: str, failed: str) -> tuple[str, ManagedJobStatus]:
    """In words why a job does not go on, and what it counts as: `failed` is why it may not, `user` who wants it."""
    if failed:
        return failed, ManagedJobStatus.FAILED
    return (f"cancelled by {user}" if user else "cancelled"), ManagedJobStatus.CANCELLED
