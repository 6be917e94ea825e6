"""Who is told of what: sinks that somebody named, and parcels on their way there.

`core.policy.notifications` says what is told to whom, `engine.notifications` sends, `server.couriers` carries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sky.core.model.statuses import ManagedJobStatus

#: The most that one job, or the configuration, may name.
MOST_SINKS = 10
_LONGEST = 2000


class Sink(NamedTuple):
    """Where news goes: to a web address, signed with `secret`, or to the input of a command.

    `on` are statuses of managed jobs, and `budget`; empty for the usual ones. `trusted`: the server's own configuration
    names it, so it may be on a private network.
    """

    webhook: str = ""
    command: tuple[str, ...] = ()
    secret: str = ""
    on: tuple[str, ...] = ()
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Parcel:
    """News on its way to one sink. `id` is the same however often it is sent. `sink` is a `Sink` as a mapping.

    Times in seconds since the epoch; `next_at` None once it was delivered, or given up.
    """

    id: str
    at: float
    sink: Mapping[str, object] = field(default_factory=dict)
    payload: Mapping[str, object] = field(default_factory=dict)
    next_at: float | None = None
    tries: int = 0
    said: str = ""


#: What may stand in `on`.
WORDS = frozenset([*ManagedJobStatus.__members__, "budget"])


def read_sinks(said: object, *, trusted: bool = False) -> tuple[Sink, ...]:
    """Sinks as `notify:` of a task or `notifications.sinks` of the configuration has them. Raises ValueError."""
    listed = [said] if isinstance(said, Mapping) else said
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise ValueError("notify: found no list; allowed: a list of `webhook: ADDRESS` or `command: [WORDS]`")
    if len(listed) > MOST_SINKS:
        raise ValueError(f"notify: found {len(listed)} entries; allowed: at most {MOST_SINKS}")
    return tuple(_read(each, trusted) for each in listed)


def _read(said: object, trusted: bool) -> Sink:
    if not isinstance(said, Mapping) or not set(said) <= {"webhook", "command", "secret", "on"}:
        raise ValueError("notify: an entry has one of webhook and command, and may have secret and on")
    webhook, command = said.get("webhook") or "", said.get("command") or ()
    # What is one text is a line for the shell, as people write it.
    words = ("/bin/sh", "-c", command) if isinstance(command, str) and command else tuple(map(str, command))
    if bool(webhook) == bool(words):
        raise ValueError("notify: an entry has one of webhook and command")
    if webhook and (not isinstance(webhook, str) or not webhook.startswith(("https://", "http://"))):
        raise ValueError("notify.webhook: allowed: an address that begins with https:// or http://")
    if len(str(webhook)) > _LONGEST or sum(map(len, words)) > _LONGEST:
        raise ValueError(f"notify: longer than {_LONGEST} characters")
    on = said.get("on") or ()
    listed = (on,) if isinstance(on, str) else tuple(map(str, on))
    named = tuple(each if each == "budget" else each.upper() for each in listed)
    if unknown := sorted(set(named) - WORDS):
        raise ValueError(f"notify.on: found {unknown[0][:40]!r}; allowed: {', '.join(sorted(WORDS))}")
    return Sink(str(webhook), words, str(said.get("secret") or ""), named, trusted)
