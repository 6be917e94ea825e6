"""Writes the audit log: every call that changes something, before it is carried out and once it is answered.

Called by the ASGI layer. What is taken from a call's arguments is a fixed list of fields, none of which holds a
secret; everything else is left out, so that nothing has to be recognised as secret.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sky.core.model.audit import AuditLine
from sky.core.ports import Audit
from sky.kit.clock import Clock
from sky.kit.ids import short_token

#: Fields that say what a call is about, and what each of them names.
_TARGETS = {
    "cluster_name": "cluster",
    "cluster": "cluster",
    "workspace_name": "workspace",
    "workspace": "workspace",
    "user_name": "user",
    "user_id": "user",
    "token_id": "token",
    "token_name": "service account",
    "request_ids": "request",
    "clouds": "catalog of",
    "infra": "pool",
    "pool_name": "pool",
    "names": "pool",
    "pool": "pool",
}
#: Further fields that are kept: words, numbers and switches only.
_KEPT = (
    "role", "disabled", "dryrun", "down", "purge", "graceful", "idle_minutes", "idle_minutes_to_autostop", "all",
    "all_users", "job_ids", "force", "resize", "clone_disk_from", "expires_in_days", "if_idle", "users", "workspaces",
    "preferred", "fault", "node", "job_id", "after", "seconds", "seed",
)  # fmt: skip
_MOST_TEXT = 200
#: Refusals of callers nobody knows that are written down per minute: strangers must not be able to fill the disk.
STRANGERS_PER_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Made:
    """What is known of a call when it is answered."""

    outcome: str
    request_id: str = ""
    workspace: str = ""


class Auditor:
    """See the module."""

    def __init__(self, audit: Audit, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        self._minute = 0
        self._strangers = 0

    async def begun(self, line: AuditLine, body: bytes) -> AuditLine:
        """Write that a call is made; its arguments are read for what it is about."""
        target, detail = about(body)
        line = line._replace(at=self._clock.now(), call=short_token(20), target=target, detail=detail)
        await self._audit.add(line)
        return line

    async def ended(self, line: AuditLine, made: Made) -> None:
        """Write how the call was answered."""
        await self._audit.add(
            line._replace(
                at=self._clock.now(),
                outcome=made.outcome[:128],
                request_id=made.request_id[:128],
                workspace=made.workspace[:64],
            )
        )

    async def refused(self, line: AuditLine, outcome: str, *, stranger: bool) -> None:
        """Write that a call was refused at the door."""
        if stranger and not self._room():
            return
        line = line._replace(at=self._clock.now(), call=short_token(20), outcome=outcome[:128])
        await self._audit.add(line)

    def _room(self) -> bool:
        minute = int(self._clock.now() // 60)
        if minute != self._minute:
            self._minute, self._strangers = minute, 0
        self._strangers += 1
        return self._strangers <= STRANGERS_PER_MINUTE


def about(body: bytes) -> tuple[str, str]:
    """What a call is about, and the arguments that are kept of it as JSON; nothing for a body that is not one."""
    try:
        told = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(told, Mapping):
        return "", ""
    named = [f"{what} {_short(told[key])}" for key, what in _TARGETS.items() if told.get(key) not in (None, "", [])]
    kept = {key: _short(told[key]) for key in _KEPT if told.get(key) not in (None, False, "", [])}
    return ", ".join(named)[:512], json.dumps(kept) if kept else ""


def _short(value: object) -> object:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list):
        return " ".join(str(each)[:64] for each in value[:20] if isinstance(each, str | int))[:_MOST_TEXT]
    return value[:_MOST_TEXT] if isinstance(value, str) else "…"


def joined(lines: list[AuditLine], limit: int) -> list[AuditLine]:
    """One line per call, newest first, of the two that each call wrote; one that was cut short says so."""
    calls: dict[str, AuditLine] = {}
    for line in lines:
        known = calls.get(line.call)
        calls[line.call] = line if known is None else known._replace(at=line.at, seq=min(known.seq, line.seq))
    return list(calls.values())[:limit]
