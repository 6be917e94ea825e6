"""How many workers a pool should have: a plain function of what waits and of the time. Called by `lifecycle.pools`.

One step at a time, and only what has been so for as long as the pool says: more when more jobs wait than its threshold,
one fewer when none waits and a worker is free, the least at once when nothing at all is to be done.
"""

from dataclasses import dataclass

from sky.core.model.services import ReplicaPolicy


@dataclass(frozen=True, slots=True)
class Load:
    """What is seen: jobs that wait for a worker, and workers that a job has."""

    waiting: int
    busy: int


@dataclass(frozen=True, slots=True)
class Aim:
    """How many workers are wanted, and since when more, or fewer, would do (seconds, None: they would not)."""

    target: int
    pressed_since: float | None = None
    idle_since: float | None = None


def aimed(aim: Aim, load: Load, policy: ReplicaPolicy, now: float) -> Aim:
    """What is wanted now. Without a most that differs from the least, that number."""
    least, most = policy.min_replicas, policy.max_replicas
    if most is None or most == least:
        return Aim(least)
    target = min(max(aim.target, least), most)
    if load.waiting and target == 0:
        # Nobody would ever be served: no patience is due.
        return Aim(1)
    if load.waiting > (policy.queue_length_threshold or 0):
        since = now if aim.pressed_since is None else aim.pressed_since
        if target >= most:
            return Aim(target)
        if now >= since + policy.upscale_delay_seconds:
            return Aim(target + 1)
        return Aim(target, pressed_since=since)
    if not load.waiting and load.busy < target and target > least:
        since = now if aim.idle_since is None else aim.idle_since
        if now >= since + policy.downscale_delay_seconds:
            return Aim(target - 1 if load.busy else least)
        return Aim(target, idle_since=since)
    return Aim(target)


def next_look(aim: Aim, policy: ReplicaPolicy) -> float | None:
    """When the aim changes if nothing else does, in seconds; None for never."""
    if aim.pressed_since is not None:
        return aim.pressed_since + policy.upscale_delay_seconds
    if aim.idle_since is not None:
        return aim.idle_since + policy.downscale_delay_seconds
    return None
