"""What a task declares so that its work survives: checkpoints, progress, and what follows a lack of memory or a notice.

Read with the task (``tasks.read_task``); ``core.lifecycle`` and the node act on them. ``to_config`` gives back what
was read, with sizes and times as numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sky.core.model.quantities import parse_duration_seconds, parse_memory, parse_volume_gb, plain
from sky.core.model.schema import Problems

#: Seconds for which a task may react to a notice, unless it says how many.
DEFAULT_GRACE_SECONDS = 30.0
#: Where a script is at home, and how long its text may be: as that of a hook.
MAX_SCRIPT_BYTES = 16 * 1024
#: Signals that a task may ask for.
SIGNALS = ("TERM", "INT", "HUP", "USR1", "USR2")

_MAX_PATTERN = 500
_GROWTH = re.compile(r"(\d+(?:\.\d+)?)\s*x?")
#: What lets a pattern take more than linear time: a repeated group that repeats, or refers back.
_DANGEROUS = re.compile(r"[+*}]\s*\)\s*[+*{]|\(\?[=!<P]|\\[1-9]")


@dataclass(frozen=True, slots=True)
class CheckpointSpec:
    """Where a task saves its state. every: seconds between two of them. max_size: GB. ``None``: nobody minds."""

    path: str
    every: float | None = None
    max_size: float | None = None

    def to_config(self) -> dict[str, Any]:
        """Return the mapping that ``read_checkpoint`` reads back."""
        every = None if self.every is None else f"{plain(self.every)}s"
        return _given({"path": self.path, "every": every, "max_size": _gigabytes(self.max_size)})


@dataclass(frozen=True, slots=True)
class ProgressSpec:
    """How far a task is: a pattern found in its log (a share, or two numbers), or the seconds that it takes."""

    pattern: str | None = None
    duration: float | None = None

    def to_config(self) -> dict[str, Any]:
        """Return the mapping that ``read_progress`` reads back."""
        duration = None if self.duration is None else f"{plain(self.duration)}s"
        return _given({"pattern": self.pattern, "duration": duration})


@dataclass(frozen=True, slots=True)
class OnOom:
    """What to ask for when memory was not enough: ``grow`` times as much, at most ``max_gb``; a larger GPU."""

    grow: float | None = None
    max_gb: float | None = None
    gpu: str | None = None

    def to_config(self) -> dict[str, Any]:
        """Return the mapping that ``read_on_oom`` reads back."""
        grow = None if self.grow is None else f"{plain(self.grow)}x"
        return _given({"grow": grow, "max": _gigabytes(self.max_gb), "gpu": self.gpu})


@dataclass(frozen=True, slots=True)
class OnPreemption:
    """What is done on a node that will be taken away: a signal to the task, a script, both within ``grace`` seconds."""

    signal: str | None = None
    grace: float = DEFAULT_GRACE_SECONDS
    run: str | None = None

    def to_config(self) -> dict[str, Any]:
        """Return the mapping that ``read_on_preemption`` reads back."""
        return _given({"signal": self.signal, "grace": f"{plain(self.grace)}s", "run": self.run})


def _given(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


def _gigabytes(size: float | None) -> str | None:
    return None if size is None else f"{plain(size)}GB"


def read_checkpoint(given: Mapping[str, Any], problems: Problems) -> CheckpointSpec | None:
    """Read ``checkpoint``; what is wrong is collected."""
    raw = given.get("checkpoint")
    if raw is None:
        return None
    values = {"path": raw} if isinstance(raw, str) else _given(raw)
    path = str(values.get("path") or "").strip()
    if not path.startswith(("/", "~/")) or ".." in path.split("/"):
        problems.add(("checkpoint", "path"), "found no path on the node; allowed: an absolute one, or one below ~/")
    every = size = None
    with problems.catch("checkpoint", "every"):
        every = _positive_seconds(values.get("every"))
    with problems.catch("checkpoint", "max_size"):
        size = None if values.get("max_size") is None else _above_zero(parse_volume_gb(values["max_size"]))
    return CheckpointSpec(path, every, size)


def read_progress(given: Mapping[str, Any], problems: Problems) -> ProgressSpec | None:
    """Read ``progress``; what is wrong is collected."""
    values = _given(given.get("progress") or {})
    if given.get("progress") is None:
        return None
    if len(values) != 1:
        problems.add(("progress",), "found no single way; allowed: either 'pattern' or 'duration'")
        return None
    duration = None
    with problems.catch("progress", "duration"):
        duration = _positive_seconds(values.get("duration"))
    pattern = values.get("pattern")
    if pattern is not None:
        with problems.catch("progress", "pattern"):
            check_pattern(pattern)
    return ProgressSpec(pattern, duration)


def check_pattern(pattern: str) -> None:
    """Raise ``ValueError`` unless it is a short regular expression with one or two groups, of the harmless kind.

    The node's Python applies it to each line of the log, so nothing is let through that may take long on one.
    """
    wanted = r"a regular expression with one group (a share of 1) or two (done and all), like 'step (\d+)/(\d+)'"
    try:
        groups = re.compile(pattern, re.ASCII).groups if len(pattern) <= _MAX_PATTERN else 0
    except (re.error, OverflowError) as error:
        raise ValueError(f"found one that cannot be read ({error}); allowed: {wanted}") from None
    if groups not in (1, 2):
        raise ValueError(f"found {groups} groups; allowed: {wanted}")
    if _DANGEROUS.search(pattern):
        raise ValueError("found a repeated group that repeats, a look-around or a reference; allowed: without these")


def read_on_oom(given: Mapping[str, Any], problems: Problems) -> OnOom | None:
    """Read ``on_oom``; what is wrong is collected."""
    raw = given.get("on_oom")
    if raw is None:
        return None
    values = _given(raw)
    grow = most = None
    with problems.catch("on_oom", "grow"):
        grow = _growth(values.get("grow"))
    with problems.catch("on_oom", "max"):
        most = None if values.get("max") is None else _memory_gb(values["max"])
    gpu = values.get("gpu")
    if grow is None and gpu is None:
        problems.add(("on_oom",), "found nothing to grow; allowed: 'grow' (memory), 'gpu: next', or both")
    if most is not None and grow is None:
        problems.add(("on_oom", "max"), "found a limit without 'grow', which it would limit")
    return OnOom(grow, most, None if gpu is None else str(gpu).lower())


def _growth(value: object) -> float | None:
    if value is None:
        return None
    found = None if isinstance(value, bool) else _GROWTH.fullmatch(str(value).strip())
    if found is None or not 1 < float(found[1]) <= 100:
        raise ValueError(f"found '{str(value)[:40]}'; allowed: a factor above 1 and at most 100, like 2x")
    return float(found[1])


def _memory_gb(value: object) -> float:
    text = parse_memory(value)
    if text.endswith(("+", "x")):
        raise ValueError(f"found '{str(value)[:40]}'; allowed: an amount of memory like 320GB")
    return float(text)


def read_on_preemption(given: Mapping[str, Any], problems: Problems) -> OnPreemption | None:
    """Read ``on_preemption``; what is wrong is collected."""
    raw = given.get("on_preemption")
    if raw is None:
        return None
    values = _given(raw)
    grace = None
    with problems.catch("on_preemption", "grace"):
        grace = _positive_seconds(values.get("grace"))
    script, signal = values.get("run"), values.get("signal")
    if script is not None and len(script.encode("utf-8", "replace")) > MAX_SCRIPT_BYTES:
        problems.add(("on_preemption", "run"), f"found a script above {MAX_SCRIPT_BYTES} bytes")
    if not script and signal is None:
        problems.add(("on_preemption",), "found nothing to do; allowed: 'signal', 'run', or both")
    word = None if signal is None else str(signal).upper().removeprefix("SIG")
    return OnPreemption(word, DEFAULT_GRACE_SECONDS if grace is None else grace, script or None)


def _positive_seconds(value: object) -> float | None:
    return None if value is None else _above_zero(parse_duration_seconds(value))


def _above_zero(value: float) -> float:
    if value <= 0:
        raise ValueError("found nothing (0); allowed: more than that")
    return value
