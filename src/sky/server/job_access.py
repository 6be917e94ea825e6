"""Gives managed jobs a token of their own, where the configuration wants it (`jobs.api_access`). Called by the engine.

Off unless it is asked for. The token is the job's user's, no more than a user, in the job's workspace alone; each
attempt has another one, which is revoked when the attempt ends and runs out by itself besides. On record is its hash;
the job has it among its secrets.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from sky.core.model.managed_jobs import ManagedJob
from sky.core.model.users import Role, Token, TokenKind
from sky.core.policy.budgets import recovery_of
from sky.core.ports.store import Users
from sky.engine.grants import Given
from sky.kit.clock import Clock
from sky.server import tokens
from sky.server.settings import Settings
from sky.wire.protocol import ENV_ENDPOINT, ENV_TOKEN

#: Seconds that a token lasts whose job does not say how long it may run, and how much longer than it says otherwise.
USUAL_S, SPARE_S = 7 * tokens.DAY_S, 3600.0
#: Addresses that stand for all of a machine, and lead nowhere from another.
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


class JobAccess:
    """See the module and `engine.grants.Grants`. `section` gives a section of the configuration as it is now."""

    def __init__(
        self, settings: Settings, users: Users, clock: Clock, section: Callable[[str], Mapping[str, object]]
    ) -> None:
        self._settings = settings
        self._users = users
        self._clock = clock
        self._section = section

    async def give(self, job: ManagedJob, *, wanted: bool) -> Given:
        """The endpoint, and a token in place of the one that an order carried out twice made before."""
        endpoint = self._endpoint() if wanted else None
        if endpoint is None:
            return Given()
        _, made = tokens.mint(
            TokenKind.ACCOUNT, job.user, f"managed job {job.known_as}", self._clock.now(), made_by=job.owner,
            role=Role.USER, workspaces=(job.workspace,), lifetime_s=lifetime(job),
        )  # fmt: skip
        for again in range(3):
            text, drawn = _of(job, again, made)
            if await self._users.add_token(drawn):
                return Given({ENV_ENDPOINT: endpoint}, {ENV_TOKEN: text})
        return Given()

    async def take_back(self, job: ManagedJob) -> None:
        """Revoke what the attempt has."""
        for again in range(3):
            found = await self._users.token(id_of(job, again))
            if found is None:
                return
            if found.revoked_at is None:
                await self._users.change_token(replace(found, revoked_at=self._clock.now()))

    def _endpoint(self) -> str | None:
        """Where jobs reach this server; None where they are not to, or cannot."""
        said = self._section("jobs")
        if said.get("api_access") is not True or self._settings.host is None:
            return None
        if named := said.get("api_endpoint"):
            return str(named)
        host = self._settings.host
        if host in _EVERYWHERE:
            return None
        return f"http://{f'[{host}]' if ':' in host else host}:{self._settings.port}"


def lifetime(job: ManagedJob) -> float:
    """Seconds that the token of an attempt lasts at most."""
    said = recovery_of(job.task_configs.get(str(job.at)))
    times = [float(each) for key in ("max_run_time", "deadline") if isinstance(each := said.get(key), int | float)]
    return min(min(times) + SPARE_S, tokens.LONGEST_S) if times else USUAL_S


def id_of(job: ManagedJob, again: int) -> str:
    """The id of an attempt's token: found again without being written down."""
    return hashlib.sha256(f"{job.id}:{job.attempt}:{again}".encode()).hexdigest()[:16]


def _of(job: ManagedJob, again: int, made: Token) -> tuple[str, Token]:
    text, drawn = tokens.mint(made.kind, made.user, made.name, made.created_at)
    found = tokens.parts(text)
    assert found is not None
    id = id_of(job, again)
    return f"sky_{id}_{found[1]}", replace(made, id=id, hash=drawn.hash)
